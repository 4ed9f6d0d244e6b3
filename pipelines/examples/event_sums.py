"""The partial sums that a build reads and publishes: its parent's, and the events since."""

from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.features import FeatureSpec
from pipelines.examples.counters import advance, events
from pipelines.examples.split import SplitConfig, roles
from pipelines.examples.vocabulary import encode
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.quarantine import good
from pipelines.ingest.sources import days_between, start_of
from pipelines.store.data_sets import COUNTERS, EXAMPLES
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


def parent_sums(
    store: Store, spec: FeatureSpec, parent: Manifest | None, split: SplitConfig
) -> Manifest | None:
    """Return the counters that were published with the parent state.

    A split that is not by date has none: it reads all impressions, and holds others out each time.
    """
    if parent is None or not spec.counters or split.by != "date":
        return None
    way_out = "run jobs.build_sequences for it"
    return store.require(COUNTERS, date.fromisoformat(parent.date), way_out)


@dataclass(frozen=True)
class EventSums:
    """The partial sums that a day's counters are made of.

    Attributes:
        logs: the sources and the spec.
        store: where the sums are published.
        split: held-out rows are no events.
        day: the date that is built.
        parent: the sums that the build continues, if any.
        first: first day that the parent does not cover.
        vocabulary: as grown by the day.
    """

    logs: Logs
    store: Store
    split: SplitConfig
    day: date
    parent: Manifest | None
    first: date | None
    vocabulary: DataFrame

    def visible(self, impressions: DataFrame, behaviours: DataFrame) -> DataFrame:
        """Return the sums that rows of the day can see, given its impressions and behaviours.

        With ``cutoff: day`` no event of the day itself is visible, however short its lag.
        """
        if self.logs.spec.cutoff == "impression":
            return self._sums(impressions, behaviours, None)
        if self.parent and self.first == self.day:
            return self.store.read(self.logs.spark, [self.parent])
        return self._sums(impressions, behaviours, start_of(self.day, self.logs.spec.time_zone))

    def publish(
        self, impressions: DataFrame, behaviours: DataFrame, facts: dict[str, Any]
    ) -> Manifest:
        """Publish the sums at the end of the day, given its impressions and behaviours."""
        spec = self.logs.spec
        end = start_of(self.day + DAY, spec.time_zone)
        rows = advance(self._sums(impressions, behaviours, None), spec, end)
        return self.store.publish(COUNTERS, self.day, rows, facts)

    def _sums(self, impressions: DataFrame, behaviours: DataFrame, end: int | None) -> DataFrame:
        """Return the parent's sums and the events since then, up to ``end`` (microseconds)."""
        spec = self.logs.spec
        if self.split.since(self.day) is None and self.first:
            # All impressions are read, from before the state that the behaviours continue.
            every = good(self.logs.behaviours(None, self.day))
            features = [f for f in spec.side("item", "user") if f.name in every.columns]
            behaviours = encode(every, features, self.vocabulary)
        counted = roles(impressions, spec, self.split)[EXAMPLES]
        if older := self._older():
            counted = older.unionByName(counted, allowMissingColumns=True)
        if end is not None:
            counted = counted.where(F.col("time") < end)
            behaviours = behaviours.where(F.col("time") < end)
        sums = events(counted, behaviours, spec)
        if self.parent:
            sums = sums.unionByName(self.store.read(self.logs.spark, [self.parent]))
        return sums

    def _older(self) -> DataFrame | None:
        """Return the impressions of the days that neither the parent nor the build's day covers.

        They are read day by day, as they would have been by a chain of builds.
        """
        logs = self.logs
        span = logs.days_before(self.first, self.day)
        if not span or self.split.since(self.day) is None:
            return None
        first, last = span
        spans: list[tuple[date | None, date]] = [span]
        if first and logs.sources.impressions.dated:
            spans = [(each, each) for each in days_between(first, last)]
        rows = [good(logs.impressions(*each)) for each in spans]
        read = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), rows)
        return encode(read, logs.spec.features, self.vocabulary)
