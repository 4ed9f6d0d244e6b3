"""The logs as the pipeline uses them: impressions with labels, behaviours, candidates.

After casting, clicks are attributed to impressions, attributes are joined from the side tables, and
repeats are marked. Every function returns good and broken rows together; broken rows have a
``reason``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import duration, microseconds
from din_model.console import console
from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.ingest.attribution import account, attribute, by_key, without_key
from pipelines.ingest.casting import Wanted, cast_rows, with_reason
from pipelines.ingest.raw_rows import Raw, columns_of
from pipelines.ingest.reading import files_of, naming_damaged, read
from pipelines.ingest.repeats import mark_repeats
from pipelines.ingest.side_tables import SideTables
from pipelines.ingest.sources import (
    BehaviourSource,
    Source,
    SourcesConfig,
    days_between,
    start_of,
)
from pipelines.ingest.typed_columns import AMOUNT, FLAG

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Logs:
    """The sources of a run, and the spec they are read by.

    ``since``: the first date of the logs; no earlier date is read.

    Raises:
        InputError: behaviours of an unknown kind, or a kind without behaviours.
    """

    spark: SparkSession
    sources: SourcesConfig
    spec: FeatureSpec
    since: date | None

    def __post_init__(self) -> None:
        kinds = {history.kind for history in self.spec.histories}
        for i, source in enumerate(self.sources.behaviours):
            if source.kind not in kinds:
                raise InputError(
                    f"sources.behaviours.{i}: kind {source.kind!r} is not in history.kinds"
                )
        if missing := kinds - {source.kind for source in self.sources.behaviours}:
            raise InputError(
                f"sources.behaviours: none of the kind {min(missing)!r}, whose histories would be"
                " empty: add its source, or remove it from history.kinds"
            )

    def impressions(self, first: date | None, last: date) -> DataFrame:
        """Return impressions: features, time, label, weight, reference, example_id.

        ``first`` None means from the beginning, in every method here.
        """
        source, spec = self.sources.impressions, self.spec
        raws = self._read(source, "impressions", first, last)
        named = {"weight": (spec.weight, AMOUNT), "reference": (spec.reference, AMOUNT)}
        if not self.sources.clicks:
            named["label"] = (spec.label, FLAG)
        numbers = {name: (column, rule) for name, (column, rule) in named.items() if column}
        own = self.side_tables.own(columns_of(raws), spec.features)
        span = self._span(source, first, last)
        wanted = Wanted(own, spec.key, numbers, span)
        rows = cast_rows(raws, source, "impressions", spec, wanted)
        keys = [f"key_{i}" for i in range(len(spec.key))]
        identity = keys or [spec.user, spec.item, "time"]
        rows = rows.withColumn("example_id", F.xxhash64(*identity))
        rows = self._labelled(rows, first, last)
        if keys:
            # Ids may count from 1 again each day, and a build of many days must equal one by one.
            # The join with clicks may have partitioned the rows by the first two. It gives all rows
            # of a key the same label.
            of_day, conflicts = ["example_id", "_date", *keys], not self.sources.clicks
            rows = rows.withColumn("_date", _date_of(F.col("time")))
            rows = mark_repeats(rows, of_day, "impression", conflicts).drop("_date")
        rows = rows.drop(*keys).withColumn("_at", self._cutoff())
        return self.side_tables.join(rows, spec.features, last).drop("_at")

    def days_before(self, first: date | None, day: date) -> tuple[date | None, date] | None:
        """Return the span from ``first``, or from the start of the logs, to the day before."""
        start = first or (self.since if self.sources.impressions.dated else None)
        if start is not None and start >= day:
            return None
        return start, day - DAY

    def _labelled(self, rows: DataFrame, first: date | None, last: date) -> DataFrame:
        """Add ``label``: from the click log, or from the impressions' own flag."""
        if self.sources.clicks:
            rows = rows.withColumn("_date", _date_of(F.col("time")))
            clicked = self._clicked(rows, first, last).withColumn("label", F.lit(1.0))
            rows = rows.join(clicked, ["example_id", "_date"], "left").drop("_date")
            return rows.fillna(0.0, ["label"])
        return rows

    def _clicked(self, rows: DataFrame, first: date | None, last: date) -> DataFrame:
        """Return ``example_id`` and ``_date`` of the impressions that the click log labels."""
        clicks = self._attributed(rows, self.clicks(first, last), last).where("reason is null")
        window = microseconds(self.sources.attribution_window)
        dates = F.sequence(_date_of(F.col("time") - window), _date_of(F.col("time")))
        return clicks.select("example_id", F.explode(dates).alias("_date")).distinct()

    def clicks_accounted(
        self, day: date, impressions: DataFrame, before: DataFrame | None
    ) -> DataFrame:
        """Return the day's own clicks, with the reason why a click labels no impression.

        Args:
            day: the date.
            impressions: good impressions of the day.
            before: example_id of the day before's impressions, if that day is built.
        """
        start, end = self._span(self.sources.impressions, day, day)
        clicks = self.clicks(day, day).where(F.coalesce(F.col("time") < end, F.lit(True)))
        clicks = self._attributed(impressions, clicks, day)
        assert start is not None
        in_time = start + microseconds(self.sources.attribution_window)
        return account(clicks, impressions, before, in_time)

    def _attributed(self, impressions: DataFrame, clicks: DataFrame, last: date) -> DataFrame:
        """Return the clicks with their example_id; see ingest.attribution."""
        spec, source = self.spec, self.sources.impressions
        if spec.item not in clicks.columns or self._all_have_keys(clicks):
            return by_key(clicks)
        window = microseconds(self.sources.attribution_window)
        shown = impressions.select(spec.user, spec.item, "time", "example_id")
        # A click just after midnight may belong to an impression just after midnight.
        _, end = self._span(source, last, last)
        wanted = Wanted(list(spec.user_and_item), span=(end, end + window))
        if after := self._later(source, "impressions", last, wanted):
            after = after.select(spec.user, spec.item, "time")
            # These impressions are no examples of the days, so any unused id will do.
            shown = shown.unionByName(after.withColumn("example_id", F.lit(0).cast("long")))
        return attribute(clicks, shown, spec, window)

    def _all_have_keys(self, clicks: DataFrame) -> bool:
        """Return whether no good click needs the impressions of its pair; reads the clicks.

        They are few beside the impressions, of today and tomorrow, which then need not be read.
        """
        with naming_damaged(self.spark, files_of([clicks])):
            return clicks.where("reason is null").where(without_key(clicks)).isEmpty()

    def _later(self, source: Source, name: str, last: date, wanted: Wanted) -> DataFrame | None:
        """Return the good rows of the following days within the attribution window, if any.

        Those logs may be unfinished. Nothing about them can stop the build of ``last``.
        """
        window = duration(self.sources.attribution_window)
        if not (source.dated and window):
            return None
        days = self._kept(days_between(last + DAY, last + DAY + window))
        try:
            raws = read(self.spark, source, name, days, optional=True)
            rows = cast_rows(raws, source, name, self.spec, wanted)
        except InputError as error:
            console.print(f"  {name} after {last} are not read: {error}", markup=False)
            return None
        return rows.where("reason is null")

    def clicks(self, first: date | None, last: date) -> DataFrame:
        """Return the clicks that may label these days: time, key_0 …, user and item.

        They come from the days themselves and, if already there, from the following days within the
        attribution window. Later clicks are ignored: labels are final.
        """
        source, spec = self.sources.clicks, self.spec
        assert source is not None
        raws = self._read(source, "clicks", first, last)
        start, end = self._span(source, first, last)
        span = (start, end + microseconds(self.sources.attribution_window))
        columns = columns_of(raws) or [*spec.key, *(f.log_name for f in spec.user_and_item)]
        keys = spec.key if all(key in columns for key in spec.key) else ()
        pair = [feature for feature in spec.user_and_item if feature.log_name in columns]
        if not keys and len(pair) < 2:
            raise InputError(
                "sources.clicks: a click needs the columns of features.key, or user and item, but"
                f" the log has {', '.join(columns)}: name them in sources.clicks.query"
            )
        pair = pair if len(pair) == 2 else []
        wanted = Wanted(pair, keys, span=span, strays_are_broken=False, keys_required=False)
        rows = cast_rows(raws, source, "clicks", spec, wanted)
        if later := self._later(source, "clicks", last, wanted):
            rows = rows.unionByName(later)
        identified = _all_known(f"key_{i}" for i in range(len(keys))) if keys else F.lit(False)
        identified = identified | (_all_known(f.name for f in pair) if pair else F.lit(False))
        unidentified = F.when(~identified, "neither the impression's key nor user and item")
        return with_reason(rows, unidentified)

    def behaviours(self, first: date | None, last: date) -> DataFrame:
        """Return what users did: user, ``kind`` (index into spec.histories), time, item features.

        Raises:
            InputError: a dated log without its first date in ``history.since``.
        """
        kinds = [history.kind for history in self.spec.histories]
        frames = []
        for i, source in enumerate(self.sources.behaviours):
            kind = kinds.index(source.kind)
            mirrored = [self.spec[name] for name in self.spec.histories[kind].fields.values()]
            if source.origin == "impressions":
                rows = self._clicked_impressions(source, first, last)
            else:
                rows = self._logged_behaviours(source, f"behaviours.{i}", mirrored, first, last)
            names = [self.spec.user, *[f.name for f in mirrored], "time", "reason", "raw"]
            frames.append(rows.select(F.lit(kind).cast("byte").alias("kind"), *names))
        union = frames[0]
        for frame in frames[1:]:
            union = union.unionByName(frame, allowMissingColumns=True)
        mirrored_names = dict.fromkeys(f for h in self.spec.histories for f in h.fields.values())
        keys = [self.spec.user, "kind", "time", *[f for f in mirrored_names if f in union.columns]]
        return mark_repeats(union, keys, "behaviour")

    def _clicked_impressions(
        self, source: BehaviourSource, first: date | None, last: date
    ) -> DataFrame:
        clicked = self.impressions(first, last).where("reason is null and label = 1")
        delay = microseconds(source.label_delay or "0s")
        empty = F.lit(None).cast("string")
        rows = clicked.withColumn("time", F.col("time") + delay)
        return rows.withColumns({"reason": empty, "raw": empty})

    def _logged_behaviours(
        self, source: BehaviourSource, name: str, mirrored: list[Feature],
        first: date | None, last: date,
    ) -> DataFrame:  # fmt: skip
        raws = self._read(source, name, first, last)
        own = self.side_tables.own(columns_of(raws), [self.spec[self.spec.user], *mirrored])
        wanted = Wanted(own, span=self._span(source, first, last))
        rows = cast_rows(raws, source, name, self.spec, wanted)
        # A behaviour has the attributes of its own time, which precedes every cutoff that sees it.
        return self.side_tables.join(rows.withColumn("_at", F.col("time")), mirrored, last)

    def candidates(self, day: date) -> DataFrame:
        """Return the candidates of ``day``: one row per (user, item), attributes of the day before.

        Context features without a column take their ``serving_default``.
        """
        source, spec = self.sources.candidates, self.spec
        if source is None:
            raise InputError(
                "sources.candidates is not set: name the table to score, or configure the section"
                " candidates"
            )
        raws = read(self.spark, source, "candidates", [day])
        columns = columns_of(raws)
        given = [f for f in spec.features if f.side != "context" or f.log_name in columns]
        wanted = Wanted(self.side_tables.own(columns, given))
        rows = cast_rows(raws, source, "candidates", spec, wanted)
        return self.known(mark_repeats(rows, [spec.user, spec.item], "candidate"), day)

    def known(self, rows: DataFrame, day: date) -> DataFrame:
        """Add to rows of users and items the attributes known as ``day`` begins."""
        rows = rows.withColumn("_at", F.lit(start_of(day, self.spec.time_zone)))
        rows = self.side_tables.join(rows, self.spec.side("user", "item"), day - DAY).drop("_at")
        return with_serving_defaults(rows, self.spec)

    @property
    def side_tables(self) -> SideTables:
        """The side tables."""
        return SideTables(self.spark, self.sources, self.spec)

    def _cutoff(self) -> Column:
        """Return the cutoff of each impression, in microseconds."""
        if self.spec.cutoff == "impression":
            return F.col("time")
        return F.unix_micros(F.date_trunc("day", F.timestamp_micros("time")))

    def _read(self, source: Source, name: str, first: date | None, last: date) -> list[Raw]:
        if first is None and source.dated and self.since is None:
            raise InputError(
                f"sources.{name}: no state is built before {last}: build the day before, or set"
                " history.since to the first date of the logs"
            )
        if first is None and source.dated and self.since and self.since > last:
            raise InputError(
                f"sources.{name}: {last} is before history.since {self.since}: choose a later"
                " --date, or set history.since to the first date of the logs"
            )
        days = days_between(first or self.since or last, last) if source.dated else [last]
        return read(self.spark, source, name, self._kept(days) if source.dated else days)

    def _kept(self, days: Sequence[date]) -> list[date]:
        return [day for day in days if day not in self.sources.lost_dates]

    def _span(self, source: Source, first: date | None, last: date) -> tuple[int | None, int]:
        zone = self.spec.time_zone
        first = first or (self.since if source.dated else None)
        return start_of(first, zone) if first else None, start_of(last + DAY, zone)


def _date_of(time: Column) -> Column:
    """Return the date of microseconds in the session's time zone, which is that of the logs."""
    return F.to_date(F.timestamp_micros(time))


def with_serving_defaults(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Fill the context features that are absent or null, as a night does."""
    for f in spec.side("context"):
        default = F.lit(f.serving_default).cast("double" if f.type == "number" else "string")
        default = F.array(default) if f.is_list else default
        filled = F.coalesce(f.name, default) if f.name in rows.columns else default
        rows = rows.withColumn(f.name, filled)
    return rows


def _all_known(names: Iterable[str]) -> Column:
    return reduce(lambda a, b: a & b, [F.col(name).isNotNull() for name in names])
