"""Clicks find their impressions, by id or by user and item, and each click is accounted for."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from din_model.errors import InputError
from pipelines.ingest.attribution import attribute, by_key
from pipelines.ingest.logs import Logs
from pipelines.ingest.quarantine import good, reasons
from pipelines.ingest.sources import BehaviourSource, Source, SourcesConfig
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec

DAYS = date(2026, 11, 19), date(2026, 11, 20)
FEATURES = FeaturesConfig(
    counters={},
    user="user", item="item", time="at", key=("id",),
    columns={"user": ColumnConfig(side="user"), "item": ColumnConfig(side="item")},
)  # fmt: skip
SPEC = feature_spec(FEATURES, HistoryConfig({"clicks": KindConfig({"item": "item"})}))


@pytest.mark.parametrize("seed", range(3))
def test_a_click_without_id_belongs_to_the_newest_impression_of_its_window(spark, seed):
    rng, window = np.random.default_rng(seed), 40
    shown = [
        (f"u{rng.integers(3)}", f"i{rng.integers(3)}", t, n)
        for n, t in enumerate(rng.permutation(500)[:120].tolist())
    ]
    clicks = [(f"u{rng.integers(3)}", f"i{rng.integers(3)}", t) for t in rng.integers(0, 500, 80)]
    found = attribute(
        spark.createDataFrame(
            [(*map(str, c[:2]), int(c[2]), None) for c in clicks],
            "user string, item string, time long, key_0 string",
        ),
        spark.createDataFrame(shown, "user string, item string, time long, example_id long"),
        SPEC,
        window,
    ).collect()
    expected = []
    for user, item, time in clicks:
        past = [(t, n) for u, i, t, n in shown if (u, i) == (user, item) and t <= time]
        newest = max(past, default=(None, None))
        late = newest[0] is not None and time - newest[0] > window
        expected.append((user, item, int(time), None if late else newest[1], bool(late)))
    got = [(r["user"], r["item"], r["time"], r["example_id"], r["late"]) for r in found]
    assert sorted(map(str, got)) == sorted(map(str, expected))
    assert {r["late"] for r in found} == {True, False}


def test_a_click_with_a_part_of_its_key_belongs_to_the_newest_impression_of_the_pair(spark):
    clicks = spark.createDataFrame(
        [("u", "x", 5, "a", None), ("u", "x", 6, None, "a"), ("v", "x", 7, "a", "b")],
        "user string, item string, time long, key_0 string, key_1 string",
    )
    shown = spark.createDataFrame(
        [("u", "x", 1, 11), ("u", "x", 4, 12), ("v", "x", 6, 13)],
        "user string, item string, time long, example_id long",
    )
    hashed = spark.sql("select xxhash64('a', 'b')").first()[0]
    found = {row["time"]: row["example_id"] for row in attribute(clicks, shown, SPEC, 10).collect()}
    assert found == {5: 12, 6: 12, 7: hashed}
    without_pair = by_key(clicks.drop("user", "item")).collect()
    assert {row["time"]: row["example_id"] for row in without_pair} == {5: None, 6: None, 7: hashed}


def logs_of(spark, folder: Path, shown: list, clicks: list, columns: str = "*") -> Logs:
    """Two days of logs; an entry is (id, user, item, time of day), times above 24:00 the second."""
    for name, rows in (("impressions", shown), ("clicks", clicks)):
        for number, day in enumerate(DAYS):
            lines = []
            for key, user, item, at in rows:
                if int(at[:2]) // 24 == number:
                    at = f"{day} {int(at[:2]) % 24:02}{at[2:]}"
                    lines.append({"id": key, "user": user, "item": item, "at": at})
            place = folder / name / f"date={day}"
            place.mkdir(parents=True, exist_ok=True)
            (place / "log.json").write_text("\n".join(map(json.dumps, lines)))
    schema = "id string, user string, item string, at string"
    source = Source(path=f"{folder}/impressions/date={{date}}", format="json", schema=schema)
    clicked = replace(source, path=f"{folder}/clicks/date={{date}}")
    sources = SourcesConfig(
        source,
        (BehaviourSource(**(vars(clicked) | {"query": None})),),
        replace(clicked, query=f"select {columns} from raw"),
    )
    return Logs(spark, sources, SPEC, DAYS[0])


SHOWN = [
    ("a", "u", "x", "10:00:00"),
    ("b", "u", "x", "11:00:00"),
    ("c", "v", "x", "12:00:00"),
    ("d", "v", "y", "23:50:00"),
    ("e", "w", "y", "23:50:00"),
    ("f", "w", "z", "23:55:00"),
    ("g", "w", "y", "24:05:00"),
    ("h", "v", "x", "25:00:00"),
]
CLICKS = [
    ("a", "u", "x", "11:30:00"),  # by its id, though b is newer
    ("a", "u", "x", "11:31:00"),  # again
    (None, "v", "x", "12:10:00"),  # c, by user and item
    (None, "v", "x", "13:00:00"),  # c was more than half an hour ago
    (None, "u", "z", "13:00:00"),  # never shown
    ("gone", "u", "x", "14:00:00"),  # an id that no impression has
    (None, None, "x", "15:00:00"),  # says nothing
    ("d", "v", "y", "24:10:00"),  # in time for the day before
    (None, "w", "y", "24:10:00"),  # g, which is newer than e
    ("f", "w", "z", "24:40:00"),  # too late for the day before
]


def accounted(spark, logs: Logs) -> tuple[list[dict[str, int]], set[str]]:
    """Count the clicks of each day by reason; return the counts, and the impressions clicked."""
    funnels, clicked, before = [], set(), None
    ids = spark.createDataFrame([(i,) for i, *_ in SHOWN], "id string")
    key_of = {row[1]: row[0] for row in ids.selectExpr("id", "xxhash64(id)").collect()}
    for day in DAYS:
        shown = good(logs.impressions(day, day)).persist()
        funnels.append(reasons(logs.clicks_accounted(day, shown, before)))
        clicked |= {key_of[row["example_id"]] for row in shown.where("label = 1").collect()}
        before = shown
    return funnels, clicked


def test_every_click_is_counted_once_and_late_clicks_label_nothing(spark, tmp_path):
    (first, second), clicked = accounted(spark, logs_of(spark, tmp_path, SHOWN, CLICKS))
    assert clicked == {"a", "c", "d", "g"}
    assert first == {
        "click without an impression": 2,
        "good": 2,
        "late click": 1,
        "neither the impression's key nor user and item": 1,
        "repeated click": 1,
    }
    assert second == {"good": 1, "late click": 1}


def test_a_click_log_without_ids_labels_by_user_and_item(spark, tmp_path):
    clicks = [c for c in CLICKS if c[1]]
    logs = logs_of(spark, tmp_path, SHOWN, clicks, "user, item, at")
    _, clicked = accounted(spark, logs)
    assert clicked == {"b", "c", "d", "g"}


@pytest.mark.parametrize("keyed", [True, False])
def test_only_clicks_without_key_need_the_impressions_of_the_next_day(spark, tmp_path, keyed):
    refused = (None, None, "x", "15:00:00")
    clicks = [c for c in CLICKS if c[0] or c == refused] if keyed else CLICKS
    logs = logs_of(spark, tmp_path, SHOWN, clicks)
    impressions = logs.impressions(DAYS[0], DAYS[0])
    tomorrow = f"/impressions/date={DAYS[1]}/log.json"
    assert any(file.endswith(tomorrow) for file in impressions.inputFiles()) != keyed
    _, clicked = accounted(spark, logs)
    assert clicked == ({"a", "d"} if keyed else {"a", "c", "d", "g"})


def test_a_click_log_without_keys_is_an_error(spark, tmp_path):
    logs = logs_of(spark, tmp_path, SHOWN, CLICKS, "user, at")
    with pytest.raises(InputError, match=r"sources\.clicks: .* the log has user, at"):
        logs.clicks(DAYS[0], DAYS[0])


def test_every_unmatched_click_keeps_its_text(spark, tmp_path):
    logs = logs_of(spark, tmp_path, SHOWN, CLICKS)
    shown = good(logs.impressions(DAYS[0], DAYS[0])).persist()
    aside = logs.clicks_accounted(DAYS[0], shown, None).where("reason is not null").collect()
    assert len(aside) == 5
    assert [row["reason"] for row in aside if not row["raw"]] == []


@pytest.mark.parametrize(
    ("tomorrow", "labelled"),
    [
        (b"\x1f\x8b\x08\x00cut off", 2),
        (b'{"id": "d", "user": "v", "item": "y", "at": "2026-11-20 00:10:00"}\n{"id": "e", "us', 3),
    ],
    ids=["damaged", "unfinished"],
)
def test_a_broken_log_of_the_next_day_does_not_stop_a_build(spark, tmp_path, tomorrow, labelled):
    logs = logs_of(spark, tmp_path, SHOWN, CLICKS)
    for name in ("impressions", "clicks"):
        (tmp_path / name / f"date={DAYS[1]}" / "log.json").write_bytes(tomorrow)
    shown = good(logs.impressions(DAYS[0], DAYS[0])).persist()
    assert shown.where("label = 1").count() == labelled
    assert "malformed" not in reasons(logs.clicks_accounted(DAYS[0], shown, None))


def test_other_columns_in_the_log_of_the_next_day_do_not_stop_a_build(spark, tmp_path, capsys):
    logs = logs_of(spark, tmp_path, SHOWN, CLICKS)
    source = replace(logs.sources.clicks, schema=None)
    logs = replace(logs, sources=replace(logs.sources, clicks=source))
    (tmp_path / "clicks" / f"date={DAYS[1]}" / "log.json").write_text('{"key": "d"}\n')
    shown = good(logs.impressions(DAYS[0], DAYS[0])).persist()
    assert reasons(logs.clicks_accounted(DAYS[0], shown, None))["good"] == 2
    assert (
        "clicks after 2026-11-19 are not read: sources.clicks: no column" in capsys.readouterr().out
    )


def test_decimal_ids_of_clicks_match_integers(spark, tmp_path):
    shown = [(1, "u", "x", "10:00:00"), (2, "u", "y", "11:00:00")]
    clicks = [(1.0, None, None, "10:01:00"), (2.5, None, None, "11:01:00")]
    logs = logs_of(spark, tmp_path, shown, clicks)
    rest = "user string, item string, at string"
    impressions = replace(logs.sources.impressions, schema=f"id bigint, {rest}")
    decimals = replace(logs.sources.clicks, schema=f"id double, {rest}")
    logs = replace(logs, sources=replace(logs.sources, impressions=impressions, clicks=decimals))
    rows = good(logs.impressions(DAYS[0], DAYS[0])).persist()
    assert {row["item"] for row in rows.where("label = 1").collect()} == {"x"}
    found = reasons(logs.clicks_accounted(DAYS[0], rows, None))
    assert found == {"good": 1, "id is not an exact whole number": 1}
