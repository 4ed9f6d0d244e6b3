"""Cached frames are released at the end of their block, also by an exception."""

import pytest
from pyspark.sql import SparkSession

from pipelines.caching import UNSUPPORTED, cached, caching


def test_a_frame_is_cached_until_its_block_ends(spark: SparkSession) -> None:
    with caching():
        outer = cached(spark.range(3))
        with caching():
            inner = cached(spark.range(4))
            assert inner.storageLevel.useMemory
        assert not inner.storageLevel.useMemory
        later = cached(spark.range(5))
        assert outer.storageLevel.useMemory
        assert later.storageLevel.useMemory
    assert not outer.storageLevel.useMemory
    assert not later.storageLevel.useMemory


def test_an_exception_releases_the_frames_of_a_function(spark: SparkSession) -> None:
    frames = []

    @caching()
    def fail() -> None:
        frames.append(cached(spark.range(3)))
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert not frames[0].storageLevel.useMemory


def test_only_a_server_that_caches_no_frames_goes_without() -> None:
    refusal = (
        "[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute."
    )
    assert UNSUPPORTED.search(refusal)
    assert not UNSUPPORTED.search("[UNRESOLVED_COLUMN] NOT_SUPPORTED cannot be resolved")
