"""Collects what a job publishes, and what it fails to publish."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import NamedTuple

from pipelines.store.manifest import Manifest


class Publication(NamedTuple):
    """A run of a data set: published, or removed again because of an ``error``."""

    store_url: str
    manifest: Manifest
    began: datetime
    ended: datetime
    error: BaseException | None = None


_collecting: ContextVar[tuple[list[Publication], ...]] = ContextVar("collecting", default=())


@contextmanager
def publications() -> Iterator[list[Publication]]:
    """Collect the publications of all stores within the block, in order; blocks may be nested."""
    found: list[Publication] = []
    token = _collecting.set((*_collecting.get(), found))
    try:
        yield found
    finally:
        _collecting.reset(token)


def collect(publication: Publication) -> None:
    """Add a publication to the lists of all blocks that are open."""
    for found in _collecting.get():
        found.append(publication)
