"""Metrics by slice: length of the history, popularity of the item, number of interests.

A model's mean hides which users it serves well.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from din_model.evaluation.metrics import Meter
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

    def __init__(self, spec: FeatureSpec, shown: Array) -> None:
        """``shown``: impressions of each item, indexed by id."""
        self._spec, self._thirds = spec, popularity_thirds(shown)
        self._meters: defaultdict[tuple[str, str], Meter] = defaultdict(
            partial(Meter, BINS, by_user=False)
        )

    def add(self, columns: Mapping[str, Array], scores: Mapping[str, Array]) -> None:
        """Add rows; ``scores``: model name -> scores [B]."""
        for part, mask in slices_of(columns, self._spec, self._thirds):
            for name, score in scores.items():
                self._meters[name, part].add(columns["label"][mask], score[mask])

    def result(self) -> list[Slice]:
        """Return every slice, in order; a model has no AUC in a slice with one label."""
        slices: dict[str, Slice] = {}
        for (name, part), meter in self._meters.items():
            numbers = meter.result()
            row = slices.setdefault(part, Slice(part, numbers["rows"], numbers["clicks"], {}))
            if numbers["auc"] == numbers["auc"]:
                row.auc[name] = numbers["auc"]
        return list(slices.values())


def interest_column(spec: FeatureSpec) -> str | None:
    """Return the history column whose distinct values count as interests, if there is one.

    It is the first field broader than the item.
    """
    for history in spec.histories:
        for name, mirrored in history.fields.items():
            if mirrored != spec.item:
                return history.column(name)
    return None


def popularity_thirds(shown: Array) -> Array:
    """Return the third of all impressions that each item belongs to, 0 for the most shown [ids]."""
    order = np.argsort(-shown, kind="stable")
    upto = np.cumsum(shown[order]) - shown[order]
    third = np.empty(len(shown), np.int64)
    third[order] = np.minimum(3 * upto // max(shown.sum(), 1), 2)
    return third


def slices_of(
    columns: Mapping[str, Array], spec: FeatureSpec, thirds: Array
) -> Iterator[tuple[str, Array]]:
    """Yield (slice, mask [B]) of every slice; ``thirds``: see popularity_thirds."""
    length = sum(columns[h.column("length")] for h in spec.histories)
    yield from _ranges("history", np.asarray(length), LENGTHS)
    items = columns[spec.item]
    third = thirds[np.minimum(items, len(thirds) - 1)]
    for number, name in enumerate(POPULARITY):
        yield f"item: {name}", third == number
    if column := interest_column(spec):
        values = np.sort(columns[column], axis=1)
        new = np.diff(values, axis=1, prepend=0) != 0  # padding is 0 and sorted first
        yield from _ranges("interests", new.sum(1), INTERESTS)


def _ranges(what: str, values: Array, starts: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    for start, following in zip(starts, (*starts[1:], None), strict=True):
        if following is None:
            yield f"{what}: {start} or more", values >= start
        else:
            last = f"-{following - 1}" if following - 1 > start else ""
            yield f"{what}: {start}{last}", (values >= start) & (values < following)
