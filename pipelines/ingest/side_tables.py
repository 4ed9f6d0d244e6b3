"""Side tables: what is known of items and users, as of the moment that a row looks at them.

A table has one row a key (a snapshot), or many with the time from which each holds
(``valid_from``). A row then sees what held at its cutoff: no later change leaks into its past.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.ingest.casting import cast_rows
from pipelines.ingest.sources import SideTable, SourcesConfig, read

ALWAYS = 2**62
SPAN = ("_from", "_until")


@dataclass(frozen=True)
class SideTables:
    """The side tables of one run."""

    spark: SparkSession
    sources: SourcesConfig
    spec: FeatureSpec

    def own(self, raw: DataFrame, features: Sequence[Feature]) -> list[Feature]:
        """The features that a log itself must have: those no side table can give."""
        return [f for f in features if f.name in raw.columns or self._home(f) is None]

    def join(self, rows: DataFrame, wanted: Sequence[Feature], day: date) -> DataFrame:
        """Add the features that ``rows`` lack, as of their ``_at`` (microseconds).

        Args:
            day: of the snapshot, where the table has one a date.
        """
        lacking = [f for f in wanted if f.name not in rows.columns]
        for name in ("items", "users"):
            mine = [f for f in lacking if self._home(f) == name]
            if mine:
                rows = as_of(rows, self.table(name, mine, day), self._key(name).name)
        return rows

    def latest(self, name: str, features: Sequence[Feature], day: date) -> DataFrame:
        """Return key and features as they hold at the end of all that the table knows."""
        return self.table(name, features, day).where(F.col("_until") == ALWAYS).drop(*SPAN)

    def table(self, name: str, features: Sequence[Feature], day: date) -> DataFrame:
        """Return key, features, ``_from`` and ``_until``: [from, until) of a key never overlap.

        Raises:
            InputError: no such table is configured; two rows of a key hold from the same moment.
        """
        source, key = self._source(name), self._key(name)
        if source is None:
            raise InputError("build.negatives: drawn items need attributes; set sources.items")
        raw = read(self.spark, source, name, [day])
        assert raw is not None
        span = None
        if source.valid_from:
            if source.valid_from not in raw.columns:
                there = ", ".join(raw.columns)
                raise InputError(
                    f"sources.{name}.valid_from: no column {source.valid_from!r}; there are {there}"
                )
            raw = raw.withColumn(self.spec.time, F.col(source.valid_from))
            span = (None, ALWAYS)
        wanted = [key, *features]
        table = cast_rows(raw, source, name, self.spec, wanted, (), (), span, mark_strays=False)
        # A row that does not say from when it holds, holds from the beginning.
        since = F.coalesce("time", F.lit(-ALWAYS)) if span else F.lit(-ALWAYS)
        table = table.withColumn("_from", since).where(F.col(key.name).isNotNull())
        table = table.drop("reason", "raw", "time")
        repeated = table.groupBy(key.name, "_from").count().where("count > 1").limit(1).collect()
        if repeated:
            when = " that hold from the same moment" if span else ""
            raise InputError(
                f"sources.{name}: {key.name} {repeated[0][0]!r} has {repeated[0][2]} rows{when};"
                f" one row a key is needed: choose in sources.{name}.query"
            )
        following = F.lead("_from").over(Window.partitionBy(key.name).orderBy("_from"))
        until = F.coalesce(following, F.lit(ALWAYS)) if span else F.lit(ALWAYS)
        return table.withColumn("_until", until)

    def _home(self, feature: Feature) -> str | None:
        """The side table that holds a feature which a log lacks."""
        if feature.name in (self.spec.user, self.spec.item):
            return None
        name = {"item": "items", "user": "users"}.get(feature.side)
        return name if name and self._source(name) else None

    def _source(self, name: str) -> SideTable | None:
        return self.sources.items if name == "items" else self.sources.users

    def _key(self, name: str) -> Feature:
        return self.spec[self.spec.item if name == "items" else self.spec.user]


def as_of(rows: DataFrame, table: DataFrame, key: str) -> DataFrame:
    """Join what held at each row's ``_at``; null where nothing did."""
    table = table.withColumnRenamed(key, "_key")
    held = (F.col("_from") <= F.col("_at")) & (F.col("_at") < F.col("_until"))
    joined = rows.join(table, (F.col(key) == F.col("_key")) & held, "left")
    return joined.drop("_key", *SPAN)
