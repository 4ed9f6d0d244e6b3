"""Frames that are cached for a block, and released when it ends, also by an exception."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

UNSUPPORTED = re.compile(r"^\W*NOT_SUPPORTED")
"""The code of the error by which a Connect server refuses to persist, such as a serverless one."""

_cached: ContextVar[list[DataFrame] | None] = ContextVar("cached", default=None)


@contextmanager
def caching() -> Iterator[None]:
    """Release at the end every frame that ``cached`` was given within; also a decorator."""
    frames: list[DataFrame] = []
    token = _cached.set(frames)
    try:
        yield
    finally:
        _cached.reset(token)
        for frame in frames:
            frame.unpersist()


def cached(rows: DataFrame) -> DataFrame:
    """Cache a frame until the innermost ``caching`` block ends; without one, as long as Spark.

    A server that caches no frames computes it again instead.
    """
    try:
        kept = rows.persist()
    except PySparkException as error:
        if UNSUPPORTED.search(str(error)):
            return rows  # computed again wherever it is used
        raise
    frames = _cached.get()
    if frames is not None:
        frames.append(kept)
    return kept
