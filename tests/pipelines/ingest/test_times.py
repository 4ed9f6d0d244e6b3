"""The column of the event's time is found, with its unit or pattern and its dates."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.ingest.times import DIGITS, PATTERNS, parsed, time_of, words_of

DAY = datetime(2026, 11, 20)
EVENTS = pd.Series([DAY + timedelta(minutes=14 * n) for n in range(200)])


@pytest.mark.parametrize(
    ("written", "unit", "pattern"),
    [
        (lambda t: t, None, None),
        (lambda t: t.astype("int64") // 10**9, "s", None),
        (lambda t: t.astype("int64") // 10**6, "ms", None),
        (lambda t: (t.astype("int64") // 10**6).astype(str), "ms", None),
        (lambda t: t.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), None, None),
        (lambda t: t.dt.strftime("%m/%d/%Y %I:%M:%S %p"), None, "M/d/yyyy h:mm:ss a"),
        (lambda t: t.dt.strftime("%d.%m.%Y %H:%M:%S"), None, "d.M.yyyy H:mm:ss"),
        (lambda t: t.dt.strftime("%Y%m%d%H%M%S"), None, "yyyyMMddHHmmss"),
        (lambda t: t.dt.strftime("%Y%m%d%H%M").astype("int64"), None, "yyyyMMddHHmm"),
        (lambda t: t.dt.strftime("%y%m%d%H").astype("float64"), None, "yyMMddHH"),
        (lambda t: t.dt.strftime("%Y%m%d%H"), None, "yyyyMMddHH"),
        (lambda t: t.dt.strftime("%Y%m%d").astype("int64"), None, "yyyyMMdd"),
    ],
)
def test_times_are_recognised_however_they_are_written(
    written: Callable[["pd.Series[datetime]"], "pd.Series[object]"],
    unit: str | None,
    pattern: str | None,
) -> None:
    time = time_of(pd.DataFrame({"at": written(EVENTS.astype("datetime64[ns]"))}), None, set())
    assert (time.column, time.unit, time.pattern) == ("at", unit, pattern)
    assert (time.first, time.last) == (date(2026, 11, 20), date(2026, 11, 21))


@pytest.mark.parametrize(
    "values", [[None, None], [True, False], [3, 4], ["a", "b"], [2026, 2025], [20261, 99]]
)
def test_what_is_no_time_is_not_taken_for_one(values: list[object]) -> None:
    assert parsed(pd.Series(values)) is None


def test_the_time_of_the_event_comes_before_other_times() -> None:
    frame = pd.DataFrame({"published_at": EVENTS, "joined": EVENTS, "click_time": EVENTS})
    assert time_of(frame, None, set()).column == "click_time"
    assert time_of(frame, None, {"click_time"}).column == "joined"
    assert time_of(frame, "published_at", set()).column == "published_at"


def test_a_time_comes_before_its_date_alone() -> None:
    dates = EVENTS.dt.strftime("%Y%m%d").astype("int64")
    frame = pd.DataFrame(
        {"date": dates, "time_ms": EVENTS.astype("datetime64[ms]").astype("int64")}
    )
    time = time_of(frame, None, set())
    assert (time.column, time.unit) == ("time_ms", "ms")


def test_a_log_without_times_names_its_columns() -> None:
    with pytest.raises(InputError, match="no column holds times: say --time COLUMN, one of a, b,"):
        time_of(pd.DataFrame({"a": [1], "b": ["x"]}), None, set())


def test_the_last_date_is_none_of_a_few_stray_events() -> None:
    times = EVENTS[:100].copy()
    times[[0, 1]] = [DAY + timedelta(days=days, hours=20) for days in (1, 2)]
    time = time_of(pd.DataFrame({"at": times}), None, set())
    assert (time.first, time.last) == (DAY.date(), DAY.date())


@pytest.mark.parametrize(("python", "java"), [*PATTERNS.items(), *DIGITS.items()])
def test_a_pattern_means_the_same_to_spark(spark: SparkSession, python: str, java: str) -> None:
    texts = EVENTS.dt.strftime(python)
    frame = spark.createDataFrame([(text,) for text in texts], "at string")
    found = frame.select(F.to_timestamp("at", java).cast("timestamp_ntz")).collect()
    assert [row[0] for row in found] == list(pd.to_datetime(texts, format=python))


def test_names_are_split_into_words() -> None:
    assert words_of("click_deviceGroup") == {"click", "device", "group", "click_devicegroup"}
