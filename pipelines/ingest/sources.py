"""Sources: where logs and tables outside the project are."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from din_model.config import Section, expand, microseconds
from din_model.errors import InputError
from din_model.ranges import Date, Duration, Text

CORRUPT = "_corrupt_record"


@dataclass(frozen=True)
class Source(Section):
    """A log or table outside the project, located by ``path`` or ``table``.

    Attributes:
        path: folder, file or pattern that Spark reads; ``{date}`` and ``${VARIABLE}`` are replaced.
        table: table of Spark's catalog.
        format: format of the files, as Spark names it: parquet, json, csv, …; ``delta`` needs no
            package.
        options: options of Spark's reader, such as ``{header: "true"}``; ``${VARIABLE}`` is
            replaced, and a password must be written so.
        schema: columns of JSON and CSV as DDL; with it, broken lines differ from empty ones. CSV
            with a header is read by name, without one by position.
        query: one SELECT of Spark SQL over the table ``raw``, for logs of another shape; may
            contain ``{date}``.
        time_unit: unit of times that are whole numbers, or text of whole numbers as in CSV without
            ``schema``.
    """

    path: str | None = None
    table: str | None = None
    format: str = "parquet"
    options: dict[str, Text] | None = None
    schema: str | None = None
    query: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None

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
    label_delay: Duration | None = None


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
        lost_dates: dates without logs, for example because the site was down. No log is read for
            them, nothing is built or trained on, and side tables keep the snapshot before them.
    """

    impressions: Source
    behaviours: tuple[BehaviourSource, ...]
    clicks: Source | None = None
    items: SideTable | None = None
    users: SideTable | None = None
    candidates: Source | None = None
    attribution_window: Duration = "30m"
    lost_dates: tuple[Date, ...] = ()

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


def require_logs(sources: SourcesConfig, day: date) -> None:
    """Raise InputError if the logs of a date are lost."""
    if day in sources.lost_dates:
        raise InputError(
            f"{day} is in sources.lost_dates, so nothing can be built for it: run the next date, or"
            " remove it there if its logs have come"
        )


def days_between(first: date, last: date) -> list[date]:
    """Return every date from ``first`` to ``last``, both included."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def start_of(day: date, time_zone: str) -> int:
    """Return the first microsecond (UTC) of a date in a time zone."""
    midnight = datetime.combine(day, time(), ZoneInfo(time_zone))
    return round(midnight.timestamp()) * 10**6
