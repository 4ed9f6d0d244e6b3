"""Raw logs of a range of dates -> typed rows, each either good or marked with the reason why not.

The first step of the flow: after it every key is a string, every time int64 microseconds UTC under
the name ``time``, and the columns carry the names of the FeatureSpec. A *missing column* or one of
a type that cannot be meant is an error; a *broken row* is marked and counted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.config import Section, expand
from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec

CORRUPT = "_corrupt_record"
UNITS = {"s": 10**6, "ms": 10**3, "us": 1}


@dataclass(frozen=True)
class Source(Section):
    """A log or table outside of the project.

    ``path`` and ``query`` may hold ``{date}``; ``query`` is Spark SQL over the table ``raw``.
    ``schema`` (DDL) lets broken JSON and CSV lines be told from empty ones. ``time_unit`` is for
    times that are whole numbers.
    """

    path: str | None = None
    table: str | None = None
    format: str = "parquet"
    options: dict[str, str] | None = None
    schema: str | None = None
    query: str | None = None
    time_unit: Literal["s", "ms", "us"] | None = None

    @property
    def dated(self) -> bool:
        """Whether each date lies apart, so that a date without data can be told."""
        return "{date}" in f"{self.path} {self.query}"


@dataclass(frozen=True)
class BehaviourSource(Source):
    """A log of what users did: clicks of their own, or the clicked impressions.

    A log that only flags clicks does not know when they happened: ``origin: impressions`` must say
    by how much to delay them (``label_delay``).
    """

    kind: str = "clicks"
    origin: Literal["log", "impressions"] = "log"
    label_delay: str | None = None


@dataclass(frozen=True)
class SideTable(Source):
    """Attributes of items or users. ``valid_from``: the column that says from when a row holds."""

    valid_from: str | None = None


@dataclass(frozen=True)
class SourcesConfig(Section):
    """Where the logs are. ``attribution_window``: how long after a day's end its clicks count."""

    impressions: Source
    behaviours: tuple[BehaviourSource, ...]
    clicks: Source | None = None
    items: SideTable | None = None
    users: SideTable | None = None
    candidates: Source | None = None
    attribution_window: str = "30m"

    def __post_init__(self) -> None:
        for source in self.behaviours:
            if source.origin == "impressions" and source.label_delay is None:
                raise ValueError(
                    "behaviours of origin impressions need a label_delay: how long after the"
                    " impression its click is known (0s if the log's time is the click's own)"
                )


def days_between(first: date, last: date) -> list[date]:
    """Every date from ``first`` to ``last``, both included."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def start_of(day: date, time_zone: str) -> int:
    """The first microsecond (UTC) of a date in a time zone."""
    midnight = datetime.combine(day, time(), ZoneInfo(time_zone))
    return round(midnight.timestamp()) * 10**6


def read(
    spark: SparkSession, source: Source, name: str, days: Sequence[date], optional: bool = False
) -> DataFrame | None:
    """Return the raw rows of ``days`` (all rows, where the source is not dated), query applied.

    Lines that the format could not read keep their text in ``_corrupt_record``. With ``optional``,
    dates that are not there are passed over, and None is returned if none is.

    Raises:
        InputError: no such path or table, a query that does not parse, no data for a date.
    """
    frames = []
    for day in days if source.dated else days[-1:]:
        path = expand(source.path).replace("{date}", str(day)) if source.path else None
        if path and not _exists(spark, path):
            if optional:
                continue
            what = f"no data for {day}" if source.dated else "no such file"
            raise InputError(f"sources.{name}: {what}: {path} does not exist")
        frames.append(_read_one(spark, source, name, path, day))
    if not frames:
        return None
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame)
    return union


def fingerprint(spark: SparkSession, frames: Sequence[DataFrame]) -> dict[str, Any]:
    """Number of files behind the frames, and a hash of their names, sizes and times of change.

    Before the frames are persisted: a cached one does not tell where it comes from.
    """
    seen = hashlib.sha256()
    files = sorted({file for frame in frames for file in frame.inputFiles()})
    for file in files:
        path = spark._jvm.org.apache.hadoop.fs.Path(file)  # type: ignore[union-attr]
        status = path.getFileSystem(spark._jsc.hadoopConfiguration()).getFileStatus(path)  # type: ignore[attr-defined]
        seen.update(f"{file} {status.getLen()} {status.getModificationTime()}\n".encode())
    return {"files": len(files), "fingerprint": seen.hexdigest()[:16]}


def _read_one(
    spark: SparkSession, source: Source, name: str, path: str | None, day: date
) -> DataFrame:
    try:
        if source.table:
            raw = spark.read.table(source.table)
        elif path:
            reader = spark.read.format(source.format).options(**(source.options or {}))
            if source.schema:
                reader = reader.schema(f"{source.schema}, {CORRUPT} string")
            raw = reader.load(path)
        else:
            raise InputError(f"sources.{name}: give a path or a table")
        if source.query is None:
            return raw
        query = source.query.replace("{date}", str(day))
        if CORRUPT not in raw.columns:
            return _query(raw, query)
        good = _query(raw.where(F.col(CORRUPT).isNull()).drop(CORRUPT), query)
        # Spark refuses to read the corrupt record alone, so the whole row is kept as its text.
        text = F.to_json(F.struct(*raw.columns)).alias(CORRUPT)
        bad = raw.where(F.col(CORRUPT).isNotNull()).select(text)
        return good.unionByName(bad, allowMissingColumns=True)
    except AnalysisException as error:
        raise InputError(f"sources.{name}: {_first_line(error)}") from None


def _query(raw: DataFrame, query: str) -> DataFrame:
    raw.createOrReplaceTempView("raw")
    return raw.sparkSession.sql(query)


def _first_line(error: AnalysisException) -> str:
    return str(error).strip().splitlines()[0]


def _exists(spark: SparkSession, path: str) -> bool:
    pattern = spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
    found = pattern.getFileSystem(spark._jsc.hadoopConfiguration()).globStatus(pattern)  # type: ignore[attr-defined]
    return found is not None and len(found) > 0


def typed(
    raw: DataFrame,
    source: Source,
    name: str,
    spec: FeatureSpec,
    features: Sequence[Feature],
    keys: Sequence[str] = (),
    numbers: Sequence[str] = (),
    span: tuple[int | None, int] | None = None,
    mark_strays: bool = True,
    whole: bool = True,
) -> DataFrame:
    """Select the columns that the project reads, typed, with ``reason`` and ``raw``.

    Args:
        features: become strings (numbers: double, lists: array<string>) under their own names.
        keys: further columns that make a row one; strings, never null.
        whole: false lets user, item and keys be null; the caller sees to it.
        numbers: columns that become double, never null.
        span: [from, to) in microseconds: the rows to keep; None where the rows have no time.
        mark_strays: a row of a dated source outside of the span is broken, not just another day's.

    Returns:
        The features, ``keys`` as ``key_0`` …, ``numbers``, ``time`` (bigint), ``reason`` (null:
        a good row) and ``raw`` (the row as JSON, null for a good one).
    """
    wanted = [f.name for f in features] + [*keys, *numbers] + ([spec.time] if span else [])
    _require(raw, name, wanted)
    checks: list[tuple[str, Column]] = []
    if CORRUPT in raw.columns:
        checks.append(("malformed", F.col(CORRUPT).isNotNull()))
    columns: list[Column] = []

    def never_null(column: Column, label: str) -> None:
        checks.append((f"{label} is missing or of the wrong type", column.isNull()))

    for f in features:
        column = _feature(raw, f, name)
        columns.append(column.alias(f.name))
        if whole and f.name in (spec.user, spec.item):
            never_null(column, f.name)
    for i, key in enumerate(keys):
        column = F.col(key).cast("string")
        columns.append(column.alias(f"key_{i}"))
        if whole:
            never_null(column, key)
    for number in numbers:
        column = F.col(number).cast("double")
        columns.append(column.alias(number))
        never_null(column, number)
    if span:
        column = _time(raw, spec.time, source, name)
        columns.append(column.alias("time"))
        never_null(column, spec.time)
        start, end = span
        inside = (column >= F.lit(start or -(2**62))) & (column < F.lit(end))
        if source.dated and mark_strays:
            checks.append((f"{spec.time} lies outside of the date", ~inside))
        else:
            raw = raw.where(inside | column.isNull())
    reason = F.coalesce(*[F.when(broken, F.lit(why)) for why, broken in checks], F.lit(None))
    text = F.when(reason.isNotNull(), F.to_json(F.struct(*raw.columns)))
    return raw.select(*columns, reason.cast("string").alias("reason"), text.alias("raw"))


def _require(raw: DataFrame, name: str, wanted: Sequence[str]) -> None:
    if missing := [column for column in wanted if column not in raw.columns]:
        there = ", ".join(c for c in raw.columns if c != CORRUPT)
        raise InputError(
            f"sources.{name}: no column {missing[0]!r}; there are {there}:"
            f" name it in sources.{name}.query"
        )


def _feature(raw: DataFrame, feature: Feature, name: str) -> Column:
    """The column as the vocabulary or the buckets read it; null where the value cannot be meant."""
    kind, column = raw.schema[feature.name].dataType, F.col(feature.name)
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    accepted: tuple[type[T.DataType], ...] = (T.StringType, T.IntegralType)
    if feature.type == "number":
        accepted = (T.NumericType, T.StringType)
    if feature.type == "string":
        accepted = (T.StringType,)
    list_as_said = isinstance(kind, T.ArrayType) == feature.is_list
    if not list_as_said or not isinstance(element, (*accepted, T.NullType)):
        raise InputError(
            f"sources.{name}: column {feature.name!r} is {kind.simpleString()}, but"
            f" features.columns.{feature.name} says {feature.type}"
            f"{' list' if feature.is_list else ''}: mend the one, or cast in"
            f" sources.{name}.query"
        )
    if feature.is_list:
        return column.cast("array<string>")
    if feature.type == "number":
        return column.cast("double")
    # Whole numbers go through bigint, so that '007' and 7 are one key and '7.5' is none.
    return column.cast("bigint").cast("string") if feature.type == "int64" else column


def _time(raw: DataFrame, time_column: str, source: Source, name: str) -> Column:
    kind, column = raw.schema[time_column].dataType, F.col(time_column)
    if isinstance(kind, T.IntegralType):
        if source.time_unit is None:
            raise InputError(
                f"sources.{name}: {time_column!r} is a whole number: set sources.{name}.time_unit"
                " to s, ms or us"
            )
        return column.cast("bigint") * UNITS[source.time_unit]
    if isinstance(kind, T.StringType):
        column = F.try_to_timestamp(column)
    elif not isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        raise InputError(
            f"sources.{name}: {time_column!r} is {kind.simpleString()}, neither a timestamp, a text"
            f" nor a whole number: cast it in sources.{name}.query"
        )
    return F.unix_micros(column.cast("timestamp"))
