"""Metrics by slice: length of the history, popularity of the item, number of interests.

A model's mean hides which users it serves well.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from din_model.evaluation.metrics import Meter, Tally
from din_model.features import FeatureSpec

Array = NDArray[Any]

LENGTHS = (0, 1, 6, 21, 51)
INTERESTS = (0, 1, 2, 4, 8)
POPULARITY = ("head", "middle", "tail")
BINS = 1 << 14


class Slice(NamedTuple):
    """Rows and clicks of a slice, and the AUC of each model by name."""

    name: str
    rows: float
    clicks: float
    auc: dict[str, float]


class Slices:
    """Accumulates metrics by slice, in one process."""

    def __init__(self) -> None:
        self._meters: defaultdict[tuple[str, str], Meter] = defaultdict(
            partial(Meter, BINS, by_user=False)
        )

    def add(
        self, label: Array, scores: Mapping[str, Array], masks: Iterable[tuple[str, Array]]
    ) -> None:
        """Add rows: label [B], model name -> scores [B], and (slice, mask [B]) of every slice."""
        for part, mask in masks:
            for name, score in scores.items():
                self._meters[name, part].add(label[mask], score[mask])

    def tallies(self) -> dict[tuple[str, str], Tally]:
        """Return (model name, slice) -> the tally of its rows."""
        return {key: meter.tally() for key, meter in self._meters.items()}


def slices_from(tallies: Mapping[tuple[str, str], Tally]) -> list[Slice]:
    """Return the slices, in their order; a model has no AUC in a slice with one label."""
    slices: dict[str, Slice] = {}
    for (name, part), tally in tallies.items():
        numbers = tally.metrics()
        row = slices.setdefault(part, Slice(part, numbers["rows"], numbers["clicks"], {}))
        if numbers["auc"] == numbers["auc"]:
            row.auc[name] = numbers["auc"]
    return list(slices.values())


def interest_column(spec: FeatureSpec) -> str | None:
    """Return the history column whose distinct values count as interests, if there is one.

    It is the first field broader than the item, whose vectors are not.
    """
    for history in spec.histories:
        for name, mirrored in spec.keyed_fields(history).items():
            if mirrored != spec.item:
                return history.column(name)
    return None


def popularity_thirds(shown: Array) -> Array:
    """Return the third of all impressions that each item belongs to, 0 for the most shown [ids]."""
    third = np.full(len(shown), 2, np.int8)
    items = np.flatnonzero(shown)
    items = items[np.argsort(-shown[items], kind="stable")]
    upto = np.cumsum(shown[items], dtype=np.int64) - shown[items]
    third[items] = np.minimum(3 * upto // max(shown.sum(dtype=np.int64), 1), 2)
    return third


def slices_of(
    columns: Mapping[str, Array], spec: FeatureSpec, thirds: Array
) -> Iterator[tuple[str, Array]]:
    """Yield (slice, mask [B]) of every slice; ``thirds``: see popularity_thirds."""
    length = np.asarray(sum(columns[h.column("length")] for h in spec.histories))
    items = columns[spec.item]
    third = thirds[np.minimum(items, len(thirds) - 1)]
    yield from _masks("history", length, LENGTHS)
    yield from ((f"item: {name}", third == number) for number, name in enumerate(POPULARITY))
    if column := interest_column(spec):
        values = np.sort(columns[column], axis=1)
        new = np.diff(values, axis=1, prepend=0) != 0  # padding is 0 and sorted first
        yield from _masks("interests", new.sum(1), INTERESTS)


def names_of_slices(spec: FeatureSpec) -> list[str]:
    """Return the names of the slices, in the order of ``slices_of``."""
    names = [name for name, _, _ in _ranges("history", LENGTHS)]
    names += [f"item: {name}" for name in POPULARITY]
    return names + [n for n, _, _ in _ranges("interests", INTERESTS) if interest_column(spec)]


def _masks(what: str, values: Array, starts: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    for name, start, end in _ranges(what, starts):
        yield name, (values >= start) & (values < end)


def _ranges(what: str, starts: tuple[int, ...]) -> Iterator[tuple[str, int, float]]:
    """Yield (name, first number, end) of each range."""
    for start, end in zip(starts, (*starts[1:], math.inf), strict=True):
        last = " or more" if end == math.inf else f"-{end - 1}" if end - 1 > start else ""
        yield f"{what}: {start}{last}", start, end
