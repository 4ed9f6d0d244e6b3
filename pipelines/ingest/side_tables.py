"""Side tables: attributes of items and users, as of each row's cutoff.

A table has one row per key (a snapshot), or several with the time from which each is valid
(``valid_from``). A row reads the values valid at its cutoff, so no later change leaks into its
past.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.columns import column as named
from pipelines.ingest.casting import Wanted, cast_rows
from pipelines.ingest.raw_rows import Raw, columns_of
from pipelines.ingest.reading import read
from pipelines.ingest.sources import SideTable, SourcesConfig
from pipelines.ingest.typed_columns import vector_form

ALWAYS = 2**62

BROKEN_VECTORS = 0.01
"""Share of broken vectors above which a table is refused."""

SPAN = ("_from", "_until")


@dataclass(frozen=True)
class SideTables:
    """The side tables of a run."""

    spark: SparkSession
    sources: SourcesConfig
    spec: FeatureSpec

    def own(self, columns: Sequence[str], features: Sequence[Feature]) -> list[Feature]:
        """Return the features to read from a log with these columns, not from a side table.

        Among them are the keys by which the others are looked up.
        """
        missing = [f for f in features if f.is_vector or f.log_name not in columns]
        in_table = {f: table for f in missing if (table := self.table_of(f))}
        own = [f for f in features if f not in in_table]
        return list(dict.fromkeys([*own, *map(self._key, in_table.values())]))

    def join(self, rows: DataFrame, wanted: Sequence[Feature], day: date) -> DataFrame:
        """Add the features that ``rows`` lack, as of their ``_at`` (microseconds).

        Args:
            rows: with user or item, and ``_at``.
            wanted: the features.
            day: of the snapshot, if the table has one per date.
        """
        missing = [f for f in wanted if f.name not in rows.columns]
        for name in ("items", "users"):
            from_table = [f for f in missing if self.table_of(f) == name]
            if from_table:
                rows = as_of(rows, self.table(name, from_table, day), self._key(name).name)
        return rows

    def latest(self, name: str, features: Sequence[Feature], day: date) -> DataFrame:
        """Return key and features as last valid in the table, without those that it lacks."""
        columns = columns_of(self._raws(name, day))
        held = [f for f in features if f.log_name in columns]
        return self.table(name, held, day).where(F.col("_until") == ALWAYS).drop(*SPAN)

    def vectors(self, feature: Feature, day: date) -> DataFrame:
        """Return (key, values) of all vectors of a feature; see examples.vectors for the key.

        Raises:
            InputError: more than one in a hundred is broken.
        """
        name = self.table_of(feature)
        assert name is not None
        typed = self._typed(name, [feature], day)
        broken, rows = typed.agg(F.count("reason"), F.count(F.lit(1))).first() or (0, 0)
        if broken > BROKEN_VECTORS * rows:
            raise InputError(
                f"sources.{name}: {broken} of {rows} rows have a {feature.log_name} that is not"
                f" {vector_form(feature)}: correct the table, or drop them in its query"
            )
        values = F.col(feature.name).alias("values")
        key = _key_of_vector(self._key(name).name, feature.name).alias("key")
        return typed.where(F.col(feature.name).isNotNull()).select(key, values).distinct()

    def table(self, name: str, features: Sequence[Feature], day: date) -> DataFrame:
        """Return key, features and validity [``_from``, ``_until``), which never overlaps.

        Raises:
            InputError: no such table is configured; two rows of a key are valid from the same time.
        """
        typed, key = self._typed(name, features, day), self._key(name)
        for f in features:
            if f.is_vector:
                typed = typed.withColumn(f.name, _key_of_vector(key.name, f.name))
        typed = typed.drop("reason", "raw")
        until = F.lit(ALWAYS)
        if self._has_times(name):
            following = F.lead("_from").over(Window.partitionBy(key.name).orderBy("_from"))
            until = F.coalesce(following, until)
        return typed.withColumn("_until", until)

    def _typed(self, name: str, features: Sequence[Feature], day: date) -> DataFrame:
        """Return key, features, ``_from``, ``reason`` and ``raw``, one row per key and time."""
        raws, source, key = self._raws(name, day), self._source(name), self._key(name)
        assert source is not None
        span = None
        if source.valid_from:
            raws = [self._valid_from(raw, source.valid_from, name) for raw in raws]
            span = (None, ALWAYS)
        wanted = Wanted([key, *features], span=span, strays_are_broken=False)
        table = cast_rows(raws, source, name, self.spec, wanted)
        # A row without a time is valid from the beginning.
        since = F.coalesce("time", F.lit(-ALWAYS)) if span else F.lit(-ALWAYS)
        table = table.withColumn("_from", since).where(F.col(key.name).isNotNull())
        table = table.drop("time")
        repeated = table.groupBy(key.name, "_from").count().where("count > 1").limit(1).collect()
        if repeated:
            when = " valid from the same time" if span else ""
            raise InputError(
                f"sources.{name}: {key.log_name} {repeated[0][0]!r} has {repeated[0][2]}"
                f" rows{when}: select one row per key in sources.{name}.query"
            )
        return table

    def _raws(self, name: str, day: date) -> list[Raw]:
        """Return the raw rows of a table, of the last date that is not lost."""
        source = self._source(name)
        if source is None:
            raise InputError("build.negatives: sampled items need attributes: set sources.items")
        while source.dated and day in self.sources.lost_dates:
            day -= timedelta(days=1)
        return read(self.spark, source, name, [day])

    def _valid_from(self, raw: Raw, column: str, name: str) -> Raw:
        """Return the rows with their validity as the time."""
        if raw.rows.columns and column not in raw.rows.columns:
            raise InputError(
                f"sources.{name}.valid_from: no column {column!r} among"
                f" {', '.join(raw.rows.columns)} in {raw.place}"
            )
        if not raw.rows.columns:
            return raw
        return Raw(raw.rows.withColumn(self.spec.time, named(column)), raw.place)

    def table_of(self, feature: Feature) -> str | None:
        """Return the side table of a feature that a log lacks."""
        if feature.name in (self.spec.user, self.spec.item):
            return None
        name = {"item": "items", "user": "users"}.get(feature.side)
        if feature.is_vector and not (name and self._source(name)):
            raise InputError(
                f"features.columns.{feature.log_name}: a vector is read from sources.{name}, which"
                " is not set"
            )
        return name if name and self._source(name) else None

    def _has_times(self, name: str) -> bool:
        source = self._source(name)
        return source is not None and source.valid_from is not None

    def _source(self, name: str) -> SideTable | None:
        return self.sources.items if name == "items" else self.sources.users

    def _key(self, name: str) -> Feature:
        return self.spec[self.spec.item if name == "items" else self.spec.user]


def as_of(rows: DataFrame, table: DataFrame, key: str) -> DataFrame:
    """Join the values valid at each row's ``_at``; null if none is."""
    table = table.withColumnRenamed(key, "_key")
    valid = (F.col("_from") <= F.col("_at")) & (F.col("_at") < F.col("_until"))
    joined = rows.join(table, (F.col(key) == F.col("_key")) & valid, "left")
    return joined.drop("_key", *SPAN)


def _key_of_vector(key: str, vector: str) -> Column:
    """Return the key of a vector column, null without a vector; see examples.vectors."""
    digits = F.lpad(F.lower(F.hex(F.xxhash64(vector))), 16, "0")
    return F.when(F.col(vector).isNotNull(), F.concat(key, F.lit(" "), digits))
