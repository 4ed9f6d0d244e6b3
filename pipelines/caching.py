"""Frames that are cached for a block, and released when it ends, also by an exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pyspark.sql import DataFrame

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
    """Cache a frame until the innermost ``caching`` block ends; without one, as long as Spark."""
    frames = _cached.get()
    if frames is not None:
        frames.append(rows)
    return rows.persist()
