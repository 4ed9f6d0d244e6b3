"""counters(D): partial sums of events by key at the end of D, and the counters of rows from them.

A partial sum has the columns of ``SCHEMA``: the counter (index into spec.counters), its ids
(``key_1`` is 0 for one key), the time ``at`` when its events became known (time + lag), their
number, their clicks, and the first and last such time. Days are those of spec.time_zone, which must
be the time zone of the session. At the end of D, ``at`` is

- the start of the day, for events that are known (one row per key and day);
- ``OLDER``, for those of them that no finite window reaches any more (one row per key);
- the start of the day on which they become known, or with ``cutoff: impression`` the exact time,
  for events that are not known yet.

Building D reads counters(D-1) and the events of D only; a cold build of many days gives the same
rows. A row per event in place of a list per key keeps memory independent of how often a key occurs.
"""

from datetime import date, datetime, timedelta
from functools import reduce
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from din_model.features import ALL, FIRST_ID, IMPRESSIONS, Counter, FeatureSpec
from pipelines.ingest.sources import start_of

SCHEMA = (
    "counter int, key_0 int, key_1 int, at bigint, events bigint, clicks bigint, first bigint,"
    " last bigint"
)

OLDER = -(2**62)
"""``at`` of events before the longest finite window."""

OLDER_DAY = -(10**8)
"""A day number before any other."""

Group = dict[int, Counter]
"""Counters by their index in the spec."""


def events(impressions: DataFrame, behaviours: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Return one partial sum per event and counter, with the exact time as ``at``.

    Args:
        impressions: encoded features, time and label.
        behaviours: user, kind, time and the mirrored item features, encoded.
        spec: the counters. Events with an unknown or missing key are left out.
    """
    sources = {IMPRESSIONS: impressions.withColumn("_clicks", (F.col("label") > 0).cast("long"))}
    for k, history in enumerate(spec.histories):
        of_kind = behaviours.where(F.col("kind") == k)
        sources[history.kind] = of_kind.withColumn("_clicks", F.lit(0).cast("long"))
    frames = []
    for name, rows in sources.items():
        group = {i: c for i, c in enumerate(spec.counters) if c.events == name}
        if group:
            each = F.explode(F.array(*[_event(i, c) for i, c in group.items()])).alias("_")
            known = rows.select("_clicks", each).where("_ is not null")
            frames.append(
                known.select(
                    "_.*",
                    F.lit(1).cast("long").alias("events"),
                    F.col("_clicks").alias("clicks"),
                    F.col("_.at").alias("first"),
                    F.col("_.at").alias("last"),
                )
            )
    return reduce(DataFrame.unionByName, frames)


def advance(sums: DataFrame, spec: FeatureSpec, end: int) -> DataFrame:
    """Return the partial sums at ``end``.

    Args:
        sums: partial sums: those at an earlier end, and the ``events`` since.
        spec: the counters.
        end: start of the day that follows, microseconds.
    """
    following = _day_of(end, spec)
    oldest = F.array(*[F.lit(_start(following, _longest(c), spec)) for c in spec.counters])
    day = F.unix_micros(F.date_trunc("day", F.timestamp_micros("at")))
    bucket = day if spec.cutoff == "day" else F.when(F.col("at") < end, day).otherwise(F.col("at"))
    is_older = F.col("at") < F.element_at(oldest, F.col("counter") + 1)
    merged = sums.withColumn("at", F.when(is_older, F.lit(OLDER)).otherwise(bucket))
    return merged.groupBy("counter", "key_0", "key_1", "at").agg(
        F.sum("events").alias("events"),
        F.sum("clicks").alias("clicks"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
    )


def attach(
    rows: DataFrame, sums: DataFrame, spec: FeatureSpec, cutoff: int | None = None
) -> DataFrame:
    """Add to each row every column of every counter: bigint, never null.

    Args:
        rows: the encoded keys of the counters and, without ``cutoff``, a column ``cutoff``.
        sums: partial sums: those at the end of an earlier day, and the ``events`` since.
        spec: the counters.
        cutoff: start of a day (microseconds) that is the cutoff of all rows; None: each row has its
            own.
    """
    if cutoff is None:
        attached, at = rows, "cutoff"
        for keys, group in _by_keys(spec).items():
            attached = _at_own_cutoffs(attached, sums, keys, group)
    else:
        attached, at = _at_start_of_day(rows, sums, spec, cutoff), f"{cutoff}L"
    columns = []
    for counter in spec.counters:
        for name in counter.columns:
            since = f"({at} - `{name}`) div 1000000"
            is_time = name in (counter.first, counter.last)
            value = F.expr(f"coalesce({since}, -1L)" if is_time else f"coalesce(`{name}`, 0L)")
            columns.append(value.alias(name))
    return attached.select(*rows.columns, *columns)


def _event(index: int, counter: Counter) -> Column:
    """Return the event's part that names it, or null if it has an unknown key."""
    known = reduce(lambda a, b: a & b, [F.col(key) >= FIRST_ID for key in counter.keys])
    keys = [F.col(key).cast("int") for key in counter.keys]
    keys += [F.lit(0)] * (2 - len(keys))
    named = F.struct(
        F.lit(index).alias("counter"),
        keys[0].alias("key_0"),
        keys[1].alias("key_1"),
        (F.col("time") + F.lit(counter.lag).cast("long")).alias("at"),
    )
    return F.when(known, named)


def _by_keys(spec: FeatureSpec) -> dict[tuple[str, ...], Group]:
    """Return the counters that one join or one sort can attach together."""
    groups: dict[tuple[str, ...], Group] = {}
    for index, counter in enumerate(spec.counters):
        groups.setdefault(counter.keys, {})[index] = counter
    return groups


def _of_group(sums: DataFrame, keys: tuple[str, ...], group: Group) -> DataFrame:
    """Return the partial sums of some counters, with their keys under the features' names."""
    own = sums.where(F.col("counter").isin(list(group)))
    named = [F.col(f"key_{i}").alias(key) for i, key in enumerate(keys)]
    rest = ("counter", "at", "events", "clicks", "first", "last")
    return own.select(*named, *[F.col(name).alias(f"_{name}") for name in rest])


def _at_start_of_day(rows: DataFrame, sums: DataFrame, spec: FeatureSpec, cutoff: int) -> DataFrame:
    """Join the totals of each group of counters.

    Rows and sums are partitioned by user once, for all joins whose keys include the user; see
    ``requireAllClusterKeysForCoPartition`` in pipelines.session.
    """
    groups = _by_keys(spec)
    partitioned = False
    for keys in sorted(groups, key=lambda keys: spec.user in keys):
        of_group = _of_group(sums, keys, groups[keys])
        if spec.user in keys:
            rows = rows if partitioned else rows.repartition(spec.user)
            of_group, partitioned = of_group.repartition(spec.user), True
        rows = rows.join(_totals(of_group, keys, groups[keys], spec, cutoff), list(keys), "left")
    return rows


def _totals(
    of_group: DataFrame, keys: tuple[str, ...], group: Group, spec: FeatureSpec, cutoff: int
) -> DataFrame:
    """Return one row per key: the counts of each window, and the first and last time."""
    known = of_group.where(F.col("_at") < cutoff)
    day, columns = _day_of(cutoff, spec), []
    for index, counter in group.items():
        own = F.col("_counter") == index
        for window in counter.windows:
            inside = own if window == ALL else own & (F.col("_at") >= _start(day, window, spec))
            columns += [
                F.sum(F.when(inside, F.col(value))).alias(name)
                for value, name in _counts(counter, window)
            ]
        columns.append(F.min(F.when(own, F.col("_first"))).alias(counter.first))
        columns.append(F.max(F.when(own, F.col("_last"))).alias(counter.last))
    return known.groupBy(*keys).agg(*columns)


def _at_own_cutoffs(
    rows: DataFrame, sums: DataFrame, keys: tuple[str, ...], group: Group
) -> DataFrame:
    """Add the counts and the first and last time, as ``_totals`` does, at each row's cutoff.

    Rows and partial sums form one stream per key. A window is what lies before the cutoff, less
    what lies before the window; both frames only grow, so a key costs time linear in its rows.
    """
    targets = rows.withColumn("_at", F.col("cutoff"))
    stream = targets.unionByName(_of_group(sums, keys, group), allowMissingColumns=True)
    number = F.datediff(F.timestamp_micros("_at"), F.lit("1970-01-01"))
    day = F.when(F.col("_at") == OLDER, F.lit(OLDER_DAY)).otherwise(number)
    stream = stream.withColumn("_day", day)
    by_key = Window.partitionBy(*keys)
    before_cutoff = by_key.orderBy("_at").rangeBetween(Window.unboundedPreceding, -1)
    columns = []
    for index, counter in group.items():
        own = F.col("_counter") == index
        for window in counter.windows:
            before_window = by_key.orderBy("_day").rangeBetween(
                Window.unboundedPreceding, -window - 1
            )
            for value, name in _counts(counter, window):
                summed = F.sum(F.when(own, F.col(value)))
                count = F.coalesce(summed.over(before_cutoff), F.lit(0))
                if window != ALL:
                    count = count - F.coalesce(summed.over(before_window), F.lit(0))
                columns.append(count.alias(name))
        first, last = F.min(F.when(own, F.col("_first"))), F.max(F.when(own, F.col("_last")))
        columns.append(first.over(before_cutoff).alias(counter.first))
        columns.append(last.over(before_cutoff).alias(counter.last))
    counted = stream.select(*rows.columns, "_counter", *columns)
    return counted.where("_counter is null").drop("_counter")


def _counts(counter: Counter, window: int) -> list[tuple[str, str]]:
    """Return (column of a partial sum, column of the counter) of each count in a window."""
    counts = [("_events", counter.count(window))]
    if counter.events == IMPRESSIONS:
        counts.append(("_clicks", counter.clicks(window)))
    return counts


def _longest(counter: Counter) -> int:
    """Return the longest finite window in days; 0 if the only window is ``ALL``."""
    return max(counter.windows)


def _day_of(moment: int, spec: FeatureSpec) -> date:
    return datetime.fromtimestamp(moment // 10**6, ZoneInfo(spec.time_zone)).date()


def _start(day: date, days: int, spec: FeatureSpec) -> int:
    """Return the start of the day that lies ``days`` before ``day``, in microseconds."""
    return start_of(day - timedelta(days=days), spec.time_zone)
