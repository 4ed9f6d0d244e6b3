"""Logs and tables outside of the project: where they lie, and their raw rows of given dates."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import Section, expand
from din_model.errors import InputError

CORRUPT = "_corrupt_record"


@dataclass(frozen=True)
class Source(Section):
    """A log or table outside of the project: ``path`` or ``table`` says where.

    Attributes:
        path: a folder, file or pattern that Spark reads; ``{date}`` and ``${VARIABLE}`` are filled
            in.
        table: a table of Spark's catalog.
        format: of the files at ``path``, as Spark names it: parquet, json, csv, …
        options: of Spark's reader, such as ``{header: "true"}``.
        schema: columns as DDL; it lets broken JSON and CSV lines be told from empty ones.
        query: Spark SQL over the table ``raw``, for logs of another shape; may hold ``{date}``.
        time_unit: of times that are whole numbers, or texts of them, as in CSV without ``schema``.
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

    def path_of(self, day: date) -> str | None:
        """The path of a date, with everything filled in; None for a table."""
        return expand(self.path).replace("{date}", str(day)) if self.path else None


@dataclass(frozen=True)
class BehaviourSource(Source):
    """A log of what users did: clicks of their own, or the clicked impressions.

    Attributes:
        kind: which of ``history.kinds`` all its rows are.
        origin: ``impressions`` takes the clicked impressions, and reads nothing else.
        label_delay: with that origin, how long after the impression its click is known, since a
            log that only flags clicks does not say.
    """

    kind: str = "clicks"
    origin: Literal["log", "impressions"] = "log"
    label_delay: str | None = None


@dataclass(frozen=True)
class SideTable(Source):
    """Attributes of items or users, one row a key, joined by it.

    Attributes:
        valid_from: the column that says from when a row holds; null: one snapshot a date.
    """

    valid_from: str | None = None


@dataclass(frozen=True)
class SourcesConfig(Section):
    """Where the logs are.

    Attributes:
        impressions: what was shown to whom, when.
        behaviours: what users did; one or more logs.
        clicks: clicks in a log of their own; null: the impressions flag theirs.
        items: attributes of items.
        users: attributes of users.
        candidates: what is to be scored for each date; null: see the section candidates.
        attribution_window: how long after an impression, or a day's end, a click counts.
    """

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
        path = source.path_of(day)
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
        status = path.getFileSystem(spark._jsc.hadoopConfiguration()).getFileStatus(path)
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
    found = pattern.getFileSystem(spark._jsc.hadoopConfiguration()).globStatus(pattern)
    return found is not None and len(found) > 0
