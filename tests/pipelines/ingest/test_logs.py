"""Impressions, behaviours and candidates as the sources tell them; broken rows have a reason."""

from dataclasses import replace
from datetime import date

import pytest

from din_model.errors import InputError
from pipelines.ingest.quarantine import reasons
from tests.pipelines.examples.test_build import DAY, NEXT, impressions, logs_of


def reasons_of(logs, day: date = DAY) -> dict[str, int]:
    return reasons(logs.impressions(day, day))


def with_source(logs, **changes):
    source = replace(logs.sources.impressions, **changes)
    return replace(logs, sources=replace(logs.sources, impressions=source))


def test_every_broken_row_has_its_reason_and_its_text(spark, tmp_path):
    good = impressions(30)
    bad = [
        "{not json",
        good[0],  # a repeat
        good[1] | {"id": "x1", "item": None},
        good[1] | {"id": "x2", "at": "yesterday"},
        good[1] | {"id": "x3", "clicked": 2},
        good[1] | {"id": None},
        '{"id": "x4", "user": "u1", "item": "text", "at": "2026-11-20 01:00:00", "clicked": 0}',
    ]
    logs = logs_of(spark, tmp_path, [*good, *bad])
    assert reasons_of(logs) == {
        "at is missing or of the wrong type": 1,
        "clicked is neither 0 nor 1": 1,
        "good": 30,
        "id is missing or of the wrong type": 1,
        "item is missing or of the wrong type": 1,
        "malformed": 2,
        "repeated impression": 1,
    }
    broken = logs.impressions(DAY, DAY).where("reason = 'malformed'").collect()
    assert any("not json" in row["raw"] for row in broken)


def test_a_day_begins_at_midnight_of_its_time_zone(spark, tmp_path):
    hours = ("14", "15", "16")  # midnight in Tokyo is 15:00 UTC
    rows = [
        row | {"at": f"2026-11-20T{hour}:30:00Z"}
        for row, hour in zip(impressions(3), hours, strict=True)
    ]
    logs = logs_of(spark, tmp_path, rows, zone="Asia/Tokyo")
    assert reasons_of(logs) == {"good": 1}
    assert reasons_of(logs, NEXT) == {"good": 2}


def test_a_time_of_digits_as_text_is_read_by_its_unit_and_asked_for_it(spark, tmp_path):
    query = "select id, user, item, '1795132800123' at, clicked from raw"  # 2026-11-20 00:00 UTC
    logs = with_source(logs_of(spark, tmp_path, impressions(20)), query=query)
    assert reasons_of(logs) == {"at is a whole number, but no time_unit is set": 20}
    assert reasons_of(with_source(logs, time_unit="ms")) == {"good": 20}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select id, user, item, at from raw", "no column 'clicked' among id, user, item, at"),
        ("select * from rows", r"sources\.impressions: .*rows"),
        ("select *, from raw", r"sources\.impressions: .*"),
        (
            "select id, user, timestamp(at) item, at, clicked from raw",
            "column 'item' is timestamp, but features.columns.item says int64",
        ),
        (
            "select id, 7 user, item, at, clicked from raw",
            "column 'user' is int, but features.columns.user says string: set type: int64 there",
        ),
        ("select id, user, item, 5 at, clicked from raw", r"sources\.impressions\.time_unit"),
    ],
)
def test_a_column_that_is_missing_or_of_a_wrong_type_is_named(spark, tmp_path, query, message):
    logs = with_source(logs_of(spark, tmp_path, impressions(2)), query=query)
    with pytest.raises(InputError, match=message):
        logs.impressions(DAY, DAY)


def test_a_date_before_the_first_of_the_logs_names_it(spark, tmp_path):
    logs = with_source(logs_of(spark, tmp_path, impressions(2)), path=f"{tmp_path}/{{date}}")
    with pytest.raises(InputError, match=f"{DAY} is before history.since {NEXT}: choose"):
        replace(logs, since=NEXT).behaviours(None, DAY)


def test_behaviours_are_the_clicked_impressions_after_their_delay(spark, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(10))
    delayed = replace(logs.sources.behaviours[0], label_delay="1m")
    logs = replace(logs, sources=replace(logs.sources, behaviours=(delayed,)))
    shown = logs.impressions(DAY, DAY).where("label = 1").collect()
    times = {row["time"] + 60 * 10**6 for row in shown}
    assert {row["time"] for row in logs.behaviours(DAY, DAY).collect()} == times


def test_a_kind_that_no_history_has_is_named(spark, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(2))
    other = replace(logs.sources.behaviours[0], kind="carts")
    with pytest.raises(InputError, match=r"behaviours\.0: kind 'carts' is not in history\.kinds"):
        replace(logs, sources=replace(logs.sources, behaviours=(other,)))


def test_a_kind_without_behaviours_is_named(spark, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(2))
    with pytest.raises(InputError, match=r"behaviours: none of the kind 'clicks', whose histories"):
        replace(logs, sources=replace(logs.sources, behaviours=()))


def test_rows_of_one_key_with_different_labels_are_set_aside_as_a_conflict(spark, tmp_path):
    good = impressions(6)
    rows = [*good, good[0] | {"clicked": 0}, good[1], good[2] | {"clicked": 3}]
    logs = logs_of(spark, tmp_path, rows)
    assert reasons_of(logs) == {
        "clicked is neither 0 nor 1": 1,
        "good": 5,
        "one key with different labels": 2,
        "repeated impression": 1,
    }


def test_every_row_in_quarantine_has_its_text(spark, tmp_path):
    good = impressions(6)
    rows = [*good, good[0] | {"clicked": 0}, good[1], good[2] | {"clicked": 3}, "{"]
    logs = logs_of(spark, tmp_path, rows)
    broken = logs.impressions(DAY, DAY).where("reason is not null").collect()
    assert len(broken) == 5
    assert [row["reason"] for row in broken if not row["raw"]] == []
    assert any('"id":"i1"' in row["raw"] or '"user":"u0"' in row["raw"] for row in broken)


def test_an_invalid_weight_is_set_aside(spark, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(5))
    spec = replace(logs.spec, weight="w", reference="r")
    weights = "element_at(array(1d, -1d, double('nan'), 0d, 1e39), 1 + int(substr(id, 2)))"
    query = f"select *, {weights} w, if(id = 'i3', double('infinity'), 0.5d) r from raw"
    logs = replace(with_source(logs, query=query), spec=spec)
    assert reasons_of(logs) == {
        "good": 1, "r is negative or not finite": 1, "w is negative or not finite": 3
    }  # fmt: skip


def of_two_days(spark, tmp_path, clicks: bool):
    """Two days whose impressions have the same ids; of each day others are clicked."""
    first = [row | {"clicked": int(n < 2)} for n, row in enumerate(impressions(6))]
    second = [
        row | {"clicked": int(n > 3), "at": row["at"].replace(str(DAY), str(NEXT))}
        for n, row in enumerate(impressions(6))
    ]
    logs = logs_of(spark, tmp_path, [*first, *second])
    if clicks:
        clicked = "select id, timestamp(at) + interval 1 minute at from raw where clicked = 1"
        own = replace(logs.sources.impressions, query=clicked)
        logs = replace(logs, sources=replace(logs.sources, clicks=own))
    return logs


@pytest.mark.parametrize("clicks", [False, True], ids=["flags", "a log of clicks"])
def test_ids_may_begin_again_each_day(spark, tmp_path, clicks):
    logs = of_two_days(spark, tmp_path, clicks)
    columns = ("user", "item", "time", "label", "reason")

    def rows_of(first: date, last: date) -> list[str]:
        return sorted(map(str, logs.impressions(first, last).select(*columns).collect()))

    one_by_one = [*rows_of(DAY, DAY), *rows_of(NEXT, NEXT)]
    assert len(one_by_one) == 12
    assert sum("label=1.0, reason=None" in row for row in one_by_one) == 4
    assert rows_of(DAY, NEXT) == sorted(one_by_one)
    behaviours = logs.behaviours(DAY, NEXT).where("reason is null").count()
    assert behaviours == 4
