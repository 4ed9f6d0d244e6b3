"""How often each id occurs in the training days, summed from the published counts of each day.

An array has a number for each id of a vocabulary. It is read when it is needed and not kept, and
never sent to another process: a rank that needs one reads the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from din_model.errors import reading
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

Array = NDArray[Any]


@dataclass(frozen=True)
class IdCounts:
    """The published counts of the training days.

    Attributes:
        days: counts of each day.
        rates: of each day, the share of unclicked rows that its examples keep.
        sizes: vocabulary -> number of ids so far.
        impressions: of all days, before sampling: no count is above it.
    """

    days: tuple[Manifest, ...]
    rates: tuple[float, ...]
    sizes: Mapping[str, int]
    impressions: int

    def examples(self, store: Store, vocabulary: str) -> Array:
        """Return how many examples hold each id, as candidate or in a history [ids]."""
        total = self._zeros(vocabulary)
        for ids, _, count in self._read(store, vocabulary, ["examples"]):
            total[ids] += count
        return total

    def shown_and_clicked(self, store: Store, vocabulary: str) -> tuple[Array, Array]:
        """Return the impressions and the clicks of each id as candidate, before sampling [ids].

        Each kept unclicked row counts as the 1 / rate rows that it stands for.
        """
        shown, clicked = self._zeros(vocabulary), self._zeros(vocabulary)
        for ids, rate, kept, clicks in self._read(store, vocabulary, ["shown", "clicked"]):
            clicked[ids] += clicks
            shown[ids] += clicks + np.rint((kept - clicks) / rate).astype(np.int64)
        return shown, clicked

    def click_rate(self, store: Store, vocabulary: str) -> float:
        """Return the clicks by the impressions of all ids, before sampling."""
        shown = clicked = 0
        for _, rate, kept, clicks in self._read(store, vocabulary, ["shown", "clicked"]):
            clicked += int(clicks.sum())
            shown += int((clicks + np.rint((kept - clicks) / rate)).sum())
        return clicked / shown

    def _zeros(self, vocabulary: str) -> Array:
        kind = np.int32 if self.impressions < 2**31 else np.int64
        return np.zeros(self.sizes[vocabulary], kind)

    def _read(self, store: Store, vocabulary: str, columns: Sequence[str]) -> Iterator[Any]:
        """Yield ids, each once, the rate of their day, and the columns; a batch at a time."""
        names = ["vocabulary", "id", *columns]
        for day, rate in zip(self.days, self.rates, strict=True):
            for url in store.urls(day):
                with reading(url), store.fs.open(url, "rb") as file:
                    for batch in pq.ParquetFile(file).iter_batches(columns=names):
                        own = batch.filter(pc.equal(batch.column("vocabulary"), vocabulary))
                        ids, *counts = (own.column(name).to_numpy() for name in names[1:])
                        yield ids, rate, *counts
