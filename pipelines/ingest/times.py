"""Which column of a log holds the time of its events, and how it is written."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd

from din_model.errors import InputError

TIME = {"time", "timestamp", "ts", "date", "datetime", "at", "when"}
OF_EVENT = {"impression", "click", "event", "view", "action", "show", "shown", "log"}
NOT_OF_EVENT = {"start", "end", "created", "published", "birth", "updated", "registered", "next"}

EPOCHS = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}
"""Order of magnitude of today, by unit."""

PATTERNS = {
    "%m/%d/%Y %I:%M:%S %p": "M/d/yyyy h:mm:ss a", "%m/%d/%Y %H:%M:%S": "M/d/yyyy H:mm:ss",
    "%m/%d/%Y %H:%M": "M/d/yyyy H:mm", "%d/%m/%Y %H:%M:%S": "d/M/yyyy H:mm:ss",
    "%d.%m.%Y %H:%M:%S": "d.M.yyyy H:mm:ss",
}  # fmt: skip
"""Texts of times that are not ISO: Python's pattern -> Spark's."""

DIGITS = {
    "%Y%m%d": "yyyyMMdd", "%y%m%d%H": "yyMMddHH", "%Y%m%d%H": "yyyyMMddHH",
    "%Y%m%d%H%M": "yyyyMMddHHmm", "%Y%m%d%H%M%S": "yyyyMMddHHmmss",
}  # fmt: skip
"""Times of digits alone, as text or as whole numbers."""

YEARS = (1990, 2100)
"""Of digits that are a date; other numbers may look like one."""

STRAY = 0.005
"""Share of the times, at both ends, that may be wrong."""

NOON = 12

FEW = 0.1
"""A date with fewer events than this share of a usual date is not one of the log's: clocks err."""


@dataclass(frozen=True)
class Time:
    """The column of the time.

    Attributes:
        column: its name.
        unit: of whole numbers.
        pattern: Spark's, of a text.
        first: date of the first events.
        last: newest date of usual size whose events reach noon: logs often end in the middle of a
            day, and have stray events beyond.
    """

    column: str
    unit: str | None
    pattern: str | None
    first: date
    last: date


def words_of(name: str) -> set[str]:
    """Split snake_case and camelCase: ``click_deviceGroup`` -> click, device, group."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {word.lower() for word in words} | {name.lower()}


def time_of(frame: pd.DataFrame, given: str | None, taken: set[str]) -> Time:
    """Return the column of the event's time.

    Raises:
        InputError: no column holds times, or the column that --time names does not.
    """
    names = [given] if given else [n for n in frame.columns if n not in taken]
    found: list[tuple[Any, ...]] = []
    for name in names:
        times = parsed(frame[name])
        if times is not None:
            words = words_of(name)
            of_event = bool(words & OF_EVENT) - bool(words & NOT_OF_EVENT)
            rank = (of_event, bool(words & TIME), not _are_dates(times[0]), -len(found))
            found.append((rank, name, times))
    if not found:
        raise InputError(
            f"no column holds times{f' in {given}' if given else ''}: say --time COLUMN, one of"
            f" {', '.join(frame.columns)}, or give the log such a column"
        )
    _, name, (times, unit, pattern) = max(found)
    first = times.quantile(STRAY).date()
    return Time(name, unit, pattern, first, max(first, _last_date(times)))


def _last_date(times: "pd.Series[Any]") -> date:
    """Return the newest date of usual size that reaches noon, or else the day before.

    A log that has dates alone has whole ones.
    """
    ends = times.groupby(times.dt.date).agg(["size", "max"])
    sizes = ends["size"].sort_values()
    usual = sizes[sizes.cumsum() * 2 >= sizes.sum()].iloc[0]  # of the date of the middle event
    last = ends["max"][ends["size"] >= FEW * usual].max()
    if _are_dates(times):
        return last.date()
    return (last if last.hour >= NOON else last - timedelta(days=1)).date()


def _are_dates(times: "pd.Series[Any]") -> bool:
    return bool((times == times.dt.normalize()).all())


def parsed(values: "pd.Series[Any]") -> tuple["pd.Series[Any]", str | None, str | None] | None:
    """Return (times, unit, pattern) if almost all values are times."""
    values = values.dropna()
    if values.empty or pd.api.types.is_bool_dtype(values):
        return None
    if pd.api.types.is_datetime64_any_dtype(values):
        return values, None, None
    if pd.api.types.is_numeric_dtype(values):
        return _of_numbers(values)
    texts = values.astype(str)
    if texts.str.fullmatch(r"\d{8,16}").mean() > 0.99:
        return _of_numbers(pd.to_numeric(texts, errors="coerce").dropna())
    for pattern in (None, *PATTERNS):
        options: dict[str, Any] = {"format": pattern or "ISO8601", "errors": "coerce"}
        times = pd.to_datetime(texts, utc=True, **options)
        if times.notna().mean() > 0.95:
            return times.dropna(), None, PATTERNS[pattern] if pattern else None
    return None


def _of_numbers(values: "pd.Series[Any]") -> tuple["pd.Series[Any]", str | None, str | None] | None:
    """Return (times, unit, pattern) of digits that are a date, or of times since 1970."""
    if (values % 1 == 0).all() and values.abs().max() < 2**63:
        digits = values.astype("int64").astype(str)
        for pattern in DIGITS:
            times = pd.to_datetime(digits, format=pattern, errors="coerce", utc=True)
            if times.dt.year.between(*YEARS).mean() > 0.95:
                return times.dropna(), None, DIGITS[pattern]
    middle = float(values.median())
    for unit, size in EPOCHS.items():
        if 0.5 * size < middle < 5 * size:
            return pd.to_datetime(values, unit=unit), unit, None  # type: ignore[call-overload]
    return None
