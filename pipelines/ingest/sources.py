"""Sources: where logs and tables outside the project are, and their raw rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import Section, expand, microseconds
from din_model.errors import InputError
from pipelines.columns import column
from pipelines.hadoop import hadoop_path

CORRUPT = "_corrupt_record"


@dataclass(frozen=True)
class Source(Section):
    """A log or table outside the project, located by ``path`` or ``table``.

    Attributes:
        path: folder, file or pattern that Spark reads; ``{date}`` and ``${VARIABLE}`` are replaced.
        table: table of Spark's catalog.
        format: format of the files, as Spark names it: parquet, json, csv, …
        options: options of Spark's reader, such as ``{header: "true"}``; ``${VARIABLE}`` is
            replaced, and a password must be written so.
        schema: columns as DDL; with it, broken JSON and CSV lines differ from empty ones.
        query: Spark SQL over the table ``raw``, for logs of another shape; may contain ``{date}``.
        time_unit: unit of times that are whole numbers, or text of whole numbers as in CSV without
            ``schema``.
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
        """Whether each date is stored separately, so that a missing date can be detected."""
        return "{date}" in f"{self.path} {self.query}"

    def path_of(self, day: date) -> str | None:
        """Return the path of a date, with variables replaced; None for a table."""
        return expand(self.path).replace("{date}", str(day)) if self.path else None


@dataclass(frozen=True)
class BehaviourSource(Source):
    """A log of what users did: their own log, or the clicked impressions.

    Attributes:
        kind: the kind of ``history.kinds`` of all rows.
        origin: ``impressions`` uses the clicked impressions and reads nothing else.
        label_delay: for that origin, the time from an impression until its click is known, because
            a log that only flags clicks does not say.
    """

    kind: str = "clicks"
    origin: Literal["log", "impressions"] = "log"
    label_delay: str | None = None


@dataclass(frozen=True)
class SideTable(Source):
    """Attributes of items or users, joined by key.

    Attributes:
        valid_from: column of the time from which a row is valid; null: one snapshot per date.
    """

    valid_from: str | None = None


@dataclass(frozen=True)
class SourcesConfig(Section):
    """Where the logs are.

    Attributes:
        impressions: what was shown to whom, and when.
        behaviours: what users did; one or more logs.
        clicks: clicks in their own log; null: the impressions flag theirs.
        items: attributes of items.
        users: attributes of users.
        candidates: (user, item) pairs to score for each date; null: see the section candidates.
        attribution_window: how long after an impression, or after the end of a day, a click counts.
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
                    "behaviours of origin impressions need a label_delay: the time from an"
                    " impression until its click is known (0s if the log has the time of the click)"
                )

    @property
    def click_delay(self) -> int:
        """Microseconds from an impression until it is known whether it was clicked."""
        if self.clicks:
            return microseconds(self.attribution_window)
        return max((microseconds(s.label_delay or "0s") for s in self.behaviours), default=0)


def days_between(first: date, last: date) -> list[date]:
    """Return every date from ``first`` to ``last``, both included."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def start_of(day: date, time_zone: str) -> int:
    """Return the first microsecond (UTC) of a date in a time zone."""
    midnight = datetime.combine(day, time(), ZoneInfo(time_zone))
    return round(midnight.timestamp()) * 10**6


def read(
    spark: SparkSession, source: Source, name: str, days: Sequence[date], optional: bool = False
) -> DataFrame | None:
    """Return the raw rows of ``days`` (all rows of a source that is not dated), query applied.

    Lines that the format could not read keep their text in ``_corrupt_record``.

    Args:
        spark: the session.
        source: problem to read.
        name: of the source, for error messages.
        days: the dates.
        optional: skip missing dates, and return None if all are missing.

    Raises:
        InputError: no such path or table, an invalid query, no data for a date.
    """
    frames = []
    for day in days if source.dated else days[-1:]:
        path = source.path_of(day)
        if path and not _exists(spark, path):
            if optional:
                continue
            problem = f"no data for {day}" if source.dated else "no such file"
            raise InputError(f"sources.{name}: {problem}: {path} does not exist")
        frames.append(_read_one(spark, source, name, path, day))
    if not frames:
        return None
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame)
    return union


def fingerprint(spark: SparkSession, frames: Sequence[DataFrame]) -> dict[str, Any]:
    """Return the number of files behind the frames, and a hash of names, sizes and times of change.

    Call it before the frames are persisted: a cached frame does not list its files.
    """
    digest = hashlib.sha256()
    files = sorted({file for frame in frames for file in frame.inputFiles()})
    for file in files:
        files_of, path = hadoop_path(spark, file)
        status = files_of.getFileStatus(path)
        digest.update(f"{file} {status.getLen()} {status.getModificationTime()}\n".encode())
    return {"files": len(files), "fingerprint": digest.hexdigest()[:16]}


def _read_one(
    spark: SparkSession, source: Source, name: str, path: str | None, day: date
) -> DataFrame:
    try:
        if source.table:
            raw = spark.read.table(source.table)
        elif path:
            options = {name: expand(text) for name, text in (source.options or {}).items()}
            reader = spark.read.format(source.format).options(**options)
            if source.schema:
                reader = reader.schema(f"{source.schema}, {CORRUPT} string")
            raw = reader.load(path)
        else:
            raise InputError(f"sources.{name}: set path or table")
        if source.query is None:
            return raw
        query = source.query.replace("{date}", str(day))
        if CORRUPT not in raw.columns:
            return _query(raw, query)
        good = _query(raw.where(F.col(CORRUPT).isNull()).drop(CORRUPT), query)
        # Spark cannot read the corrupt record column alone, so the text is that of the whole row.
        text = F.to_json(F.struct(*map(column, raw.columns))).alias(CORRUPT)
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
    files, pattern = hadoop_path(spark, path)
    matches = files.globStatus(pattern)
    return matches is not None and len(matches) > 0
