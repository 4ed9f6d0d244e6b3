"""Cached frames are released at the end of their block, also by an exception."""

import pytest
from pyspark.sql import SparkSession

from pipelines.caching import cached, caching


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
