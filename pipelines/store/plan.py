"""Which published runs are what a job would publish again, and which rest on superseded ones.

A writer records in the facts of a run all that decides its rows: under ``pins`` the ids of the runs
that it is made of, by data set, and its settings beside them. This module alone compares them.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from pipelines.store.data_sets import PINS
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

Pins = dict[str, list[str]]
"""The ids of the runs that a run is made of, by data set."""


def pins(*upstream: Manifest | None) -> Pins:
    """Return the pins of a run that is made of these runs; None is left out."""
    ids: Pins = {}
    for manifest in upstream:
        if manifest:
            ids.setdefault(manifest.name, []).append(manifest.id)
    return ids


def made_of(manifest: Manifest | None, origin: dict[str, Any]) -> bool:
    """Return whether a run was made of these pins and settings: made again, it would be equal."""
    return manifest is not None and all(
        manifest.facts.get(name) == value for name, value in origin.items()
    )


def rests_on_published(store: Store, manifest: Manifest | None) -> bool:
    """Return whether all that a run was made of is still what is published."""
    return manifest is not None and all(_published(store, id_) == id_ for id_ in _ids(manifest))


def stale(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """Yield the runs of a chained data set, in order of date, that do not rest on the one before.

    That one may have been published again since, or may be of a date that was built later.
    """
    before: str | None = None
    for manifest in manifests:
        own = manifest.facts[PINS].get(manifest.name, [])
        if not own or own == [before]:
            before = manifest.id
        else:
            before = None
            yield manifest


def _ids(manifest: Manifest) -> list[str]:
    return [id_ for ids in manifest.facts[PINS].values() for id_ in ids]


def _published(store: Store, id_: str) -> str | None:
    """Return the id of what is published in the place of a pinned run."""
    name, day, _ = id_.split("/")
    manifest = store.manifest(name, date.fromisoformat(day))
    return manifest.id if manifest else None
