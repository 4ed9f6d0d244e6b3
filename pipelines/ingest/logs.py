"""The logs as the pipeline means them: impressions with labels, behaviours, candidates.

Follows ingest: clicks are attributed to impressions, attributes are joined from the side tables,
repeats are marked. Every function returns good and broken rows together, told apart by ``reason``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from din_model.config import duration, microseconds
from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.ingest.attribution import account, attribute
from pipelines.ingest.casting import cast_rows
from pipelines.ingest.side_tables import SideTables
from pipelines.ingest.sources import Source, SourcesConfig, days_between, read, start_of

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Logs:
    """The sources of one run, and the contract they are read by.

    ``since``: the first date of the logs; dated ones are never asked for an earlier day.
    """

    spark: SparkSession
    sources: SourcesConfig
    spec: FeatureSpec
    since: date | None

    def impressions(self, first: date | None, last: date) -> DataFrame:
        """What was shown: the features, time, label, weight, reference, example_id.

        ``first`` None means from the beginning, as in every method here.
        """
        source, spec = self.sources.impressions, self.spec
        raw = self._read(source, "impressions", first, last)
        numbers = [c for c in (spec.weight, spec.reference) if c]
        numbers += [] if self.sources.clicks else [spec.label]
        own = self.side_tables.own(raw, spec.features)
        span = self._span(source, first, last)
        rows = cast_rows(raw, source, "impressions", spec, own, spec.key, numbers, span)
        keys = [f"key_{i}" for i in range(len(spec.key))]
        identity = keys or [spec.user, spec.item, "time"]
        rows = rows.withColumn("example_id", F.xxhash64(*identity))
        if self.sources.clicks:
            clicks = self._attributed(rows, self.clicks(first, last), last)
            clicked = clicks.where("reason is null").select("example_id").distinct()
            rows = rows.join(clicked.withColumn("label", F.lit(1.0)), "example_id", "left")
            rows = rows.fillna(0.0, ["label"])
        else:
            rows = rows.withColumnRenamed(spec.label, "label")
            wrong = F.when(~F.col("label").isin(0.0, 1.0), f"{spec.label} is neither 0 nor 1")
            rows = rows.withColumn("reason", F.coalesce("reason", wrong))
        for canonical, column in (("weight", spec.weight), ("reference", spec.reference)):
            rows = rows.withColumnRenamed(column, canonical) if column else rows
        if keys:
            rows = _mark_repeats(rows, keys, "impression")
        rows = rows.drop(*keys).withColumn("_at", self._cutoff())
        return self.side_tables.join(rows, spec.features, last).drop("_at")

    def clicks_accounted(
        self, day: date, impressions: DataFrame, before: DataFrame | None
    ) -> DataFrame:
        """The day's own clicks, each with the ``reason`` why it labels no impression of the day.

        Args:
            impressions: of the day, good ones.
            before: the example_id of the day before's, if that is built.
        """
        start, end = self._span(self.sources.impressions, day, day)
        clicks = self.clicks(day, day).where(F.coalesce(F.col("time") < end, F.lit(True)))
        clicks = self._attributed(impressions, clicks, day)
        assert start is not None
        in_time = start + microseconds(self.sources.attribution_window)
        return account(clicks, impressions, before, in_time)

    def _attributed(self, impressions: DataFrame, clicks: DataFrame, last: date) -> DataFrame:
        """The clicks with their example_id; see pipelines.ingest.attribution."""
        spec, source = self.spec, self.sources.impressions
        window = microseconds(self.sources.attribution_window)
        pair = [self.spec[spec.user], self.spec[spec.item]]
        shown = impressions.select(spec.user, spec.item, "time", "example_id")
        if spec.item in clicks.columns and (later := self._later(source, "impressions", last)):
            # A click just after midnight may belong to what was shown just after midnight.
            _, end = self._span(source, last, last)
            after = cast_rows(later, source, "impressions", spec, pair, span=(end, end + window))
            after = after.where("reason is null").select(spec.user, spec.item, "time")
            # No example of these days has their id, which need not be told here.
            shown = shown.unionByName(after.withColumn("example_id", F.lit(0).cast("long")))
        return attribute(clicks, shown, spec, window)

    def _later(self, source: Source, name: str, last: date) -> DataFrame | None:
        """What is there of the days after ``last`` that the attribution window reaches into."""
        window = duration(self.sources.attribution_window)
        if not (source.dated and window):
            return None
        days = days_between(last + DAY, last + DAY + window)
        return read(self.spark, source, name, days, optional=True)

    def clicks(self, first: date | None, last: date) -> DataFrame:
        """The clicks that may label the impressions of these days: time, key_0 …, user and item.

        They lie in the days themselves and, where those are there already, in the days after that
        the attribution window reaches into. Later clicks are not looked at: labels are final.
        """
        source, spec = self.sources.clicks, self.spec
        assert source is not None
        raw = self._read(source, "clicks", first, last)
        later = self._later(source, "clicks", last)
        raw = raw if later is None else raw.unionByName(later)
        start, end = self._span(source, first, last)
        span = (start, end + microseconds(self.sources.attribution_window))
        keys = spec.key if all(key in raw.columns for key in spec.key) else ()
        pair = [spec[name] for name in (spec.user, spec.item) if name in raw.columns]
        if not keys and len(pair) < 2:
            raise InputError(
                "sources.clicks: clicks are matched by features.key, or by user and item: the log"
                f" has neither; name the columns in sources.clicks.query ({', '.join(raw.columns)})"
            )
        pair = pair if len(pair) == 2 else []
        rows = cast_rows(
            raw, source, "clicks", spec, pair, keys, span=span, mark_strays=False, whole=False
        )
        known = _all_known(f"key_{i}" for i in range(len(keys))) if keys else F.lit(False)
        known = known | (_all_known(f.name for f in pair) if pair else F.lit(False))
        nameless = F.when(~known, "neither the impression's key nor user and item")
        return rows.withColumn("reason", F.coalesce("reason", nameless))

    def behaviours(self, first: date | None, last: date) -> DataFrame:
        """What users did: the user, ``kind`` (index into spec.histories), time, item features.

        Raises:
            InputError: a kind that the spec does not know; a dated log asked for its beginning
                where ``history.since`` does not say when that was.
        """
        kinds = [history.kind for history in self.spec.histories]
        frames = []
        for i, source in enumerate(self.sources.behaviours):
            if source.kind not in kinds:
                raise InputError(
                    f"sources.behaviours.{i}: kind {source.kind!r} is not in history.kinds"
                )
            kind = kinds.index(source.kind)
            fields = self.spec.histories[kind].fields.values()
            mirrored = [self.spec[name] for name in fields]
            if source.origin == "impressions":
                shown = self.impressions(first, last).where("reason is null and label = 1")
                delay = microseconds(source.label_delay or "0s")
                rows = shown.withColumn("time", F.col("time") + delay)
                empty = F.lit(None).cast("string")
                rows = rows.withColumns({"reason": empty, "raw": empty})
            else:
                name = f"behaviours.{i}"
                raw = self._read(source, name, first, last)
                own = self.side_tables.own(raw, [self.spec[self.spec.user], *mirrored])
                span = self._span(source, first, last)
                rows = cast_rows(raw, source, name, self.spec, own, span=span)
                # What was done is told as it was then, before every cutoff that will see it.
                rows = rows.withColumn("_at", F.col("time"))
                rows = self.side_tables.join(rows, mirrored, last)
            names = [self.spec.user, *[f.name for f in mirrored], "time", "reason", "raw"]
            frames.append(rows.select(F.lit(kind).cast("byte").alias("kind"), *names))
        union = frames[0]
        for frame in frames[1:]:
            union = union.unionByName(frame, allowMissingColumns=True)
        told = dict.fromkeys(f for h in self.spec.histories for f in h.fields.values())
        keys = [self.spec.user, "kind", "time", *[f for f in told if f in union.columns]]
        return _mark_repeats(union, keys, "behaviour")

    def candidates(self, day: date) -> DataFrame:
        """The table to be scored for ``day``: one row a (user, item), attributes of the day before.

        Context features that it lacks take their ``serving_default``.
        """
        source, spec = self.sources.candidates, self.spec
        if source is None:
            raise InputError(
                "sources.candidates is not set: name the table to be scored, or say in the section"
                " candidates how to generate it"
            )
        raw = self._read(source, "candidates", day, day)
        given = [f for f in spec.features if f.side != "context" or f.name in raw.columns]
        rows = cast_rows(raw, source, "candidates", spec, self.side_tables.own(raw, given))
        return self.known(_mark_repeats(rows, [spec.user, spec.item], "candidate"), day)

    def known(self, rows: DataFrame, day: date) -> DataFrame:
        """Rows of users and items, with all that is known of them as ``day`` begins."""
        rows = rows.withColumn("_at", F.lit(start_of(day, self.spec.time_zone)))
        rows = self.side_tables.join(rows, self.spec.side("user", "item"), day - DAY).drop("_at")
        return with_serving_defaults(rows, self.spec)

    @property
    def side_tables(self) -> SideTables:
        """The side tables."""
        return SideTables(self.spark, self.sources, self.spec)

    def _cutoff(self) -> Column:
        """The cutoff of each impression, in microseconds."""
        if self.spec.cutoff == "impression":
            return F.col("time")
        return F.unix_micros(F.date_trunc("day", F.timestamp_micros("time")))

    def _read(self, source: Source, name: str, first: date | None, last: date) -> DataFrame:
        if first is None and source.dated and self.since is None:
            raise InputError(
                f"sources.{name}: nothing is built before {last}: build the day before, or set"
                " history.since to the first date of the logs"
            )
        days = days_between(first or self.since or last, last) if source.dated else [last]
        rows = read(self.spark, source, name, days)
        assert rows is not None
        return rows

    def _span(self, source: Source, first: date | None, last: date) -> tuple[int | None, int]:
        zone = self.spec.time_zone
        first = first or (self.since if source.dated else None)
        return start_of(first, zone) if first else None, start_of(last + DAY, zone)


def with_serving_defaults(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Fill the context features that are absent or null, as the night does."""
    for f in spec.side("context"):
        default = F.lit(f.serving_default).cast("double" if f.type == "number" else "string")
        default = F.array(default) if f.is_list else default
        filled = F.coalesce(f.name, default) if f.name in rows.columns else default
        rows = rows.withColumn(f.name, filled)
    return rows


def _all_known(names: Iterable[str]) -> Column:
    return reduce(lambda a, b: a & b, [F.col(name).isNotNull() for name in names])


def _mark_repeats(rows: DataFrame, keys: Sequence[str], what: str) -> DataFrame:
    """Mark all but one of the good rows with equal keys; which one stays is no matter of luck."""
    others = [c for c in rows.columns if c not in (*keys, "reason", "raw")]
    window = Window.partitionBy(*keys).orderBy(F.col("reason").isNotNull(), *others)
    again = F.when(F.row_number().over(window) > 1, f"repeated {what}")
    return rows.withColumn("reason", F.coalesce("reason", again))
