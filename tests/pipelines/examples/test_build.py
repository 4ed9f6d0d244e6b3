"""A day's logs become examples: none lost or doubled, broken rows set aside, files alike."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.examples.build import build_day, is_built
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.negatives import NegativesConfig
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, Source, SourcesConfig
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store

DAY = date(2026, 11, 20)
SCHEMA = "id string, user string, item bigint, at string, clicked int"
FEATURES = FeaturesConfig(
    user="user", item="item", time="at", label="clicked", key=("id",),
    columns={"user": ColumnConfig(side="user"), "item": ColumnConfig(side="item", type="int64")},
)  # fmt: skip
BY_DATE = SplitConfig()
EIGHT_FILES = BuildConfig(shards=4, rows_per_file=60)


def impressions(count: int = 401) -> list[dict[str, Any]]:
    return [
        {
            "id": f"i{n}",
            "user": f"u{n // 40}",
            "item": 2**53 + n % 17,
            "at": f"2026-11-20 {n % 24:02}:{n % 60:02}:00",
            "clicked": int(n % 5 == 0),
        }
        for n in range(count)
    ]


def logs_of(
    spark: SparkSession, folder: Path, lines: list[Any], zone: str = "UTC", cutoff: Any = "day"
) -> Logs:
    """Logs of one JSON file, in which an entry that is a text is a line as it is."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "log.json").write_text(text)
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, cutoff, length=5)
    spec = feature_spec(replace(FEATURES, time_zone=zone), history)
    spark.conf.set("spark.sql.session.timeZone", zone)
    return Logs(
        spark,
        SourcesConfig(
            impressions=Source(path=str(folder / "log.json"), format="json", schema=SCHEMA),
            behaviours=(BehaviourSource(origin="impressions", label_delay="0s"),),
        ),
        spec,
        None,
    )


def test_files_of_a_day_are_alike_and_in_no_users_order(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions()), Store(str(tmp_path / "store"))
    manifest = build_day(logs, store, EIGHT_FILES, BY_DATE, DAY)
    sizes = sorted(file.rows for file in manifest.files)
    assert sizes == [50] * 7 + [51]
    assert {f.row_groups for f in manifest.files} == {1}
    for url in store.urls(manifest):
        users = [row["user"] for row in spark.read.parquet(url).collect()]
        assert len(set(users)) > 5, "users lie in blocks of 40 in the log, and must not in a file"
    assert is_built(store, DAY)


def test_building_again_gives_the_same_rows_and_a_lone_new_state_is_not_a_built_day(
    spark, tmp_path
):
    logs, store = logs_of(spark, tmp_path, impressions()), Store(str(tmp_path / "store"))

    def build() -> tuple[str, list[str]]:
        manifest = build_day(logs, store, EIGHT_FILES, BY_DATE, DAY)
        rows = [list(map(str, spark.read.parquet(u).collect())) for u in store.urls(manifest)]
        return store.require("counts", DAY, "").facts["content"], sorted(map(str, rows))

    assert build() == build()
    state = store.require("state", DAY, "")
    store.publish("state", DAY, store.read(spark, [state]), state.facts)
    assert not is_built(store, DAY)


def test_broken_rows_are_set_aside_with_a_reason_and_everything_adds_up(spark, tmp_path):
    good = impressions(300)
    bad = [
        "{not json",
        good[0],  # a repeat
        good[1] | {"id": "x1", "item": None},
        good[1] | {"id": "x2", "at": "yesterday"},
        good[1] | {"id": "x3", "clicked": 2},
        good[1] | {"id": None},
        '{"id": "x4", "user": "u1", "item": "text", "at": "2026-11-20 01:00:00", "clicked": 0}',
    ]
    logs, store = logs_of(spark, tmp_path, [*good, *bad]), Store(str(tmp_path / "store"))
    manifest = build_day(logs, store, BuildConfig(max_broken=0.05), BY_DATE, DAY)
    assert manifest.facts["funnel"]["impressions"] == {
        "at is missing or of the wrong type": 1,
        "clicked is neither 0 nor 1": 1,
        "good": 300,
        "id is missing or of the wrong type": 1,
        "item is missing or of the wrong type": 1,
        "malformed": 2,
        "repeated impression": 1,
    }
    assert manifest.rows == 300
    aside = store.read(spark, [store.require("quarantine", DAY, "")])
    kept = aside.where("source = 'impressions'").collect()
    assert len(kept) == 7
    assert any("not json" in row["raw"] for row in kept)


def test_too_many_broken_rows_stop_the_job_and_yesterdays_answer_stands(spark, tmp_path):
    store = Store(str(tmp_path / "store"))
    before = build_day(logs_of(spark, tmp_path, impressions()), store, EIGHT_FILES, BY_DATE, DAY)
    logs = logs_of(spark, tmp_path, [*impressions(), *["{"] * 20])
    message = r"sources\.impressions: 20 of 421 rows of 2026-11-20 are broken, mostly 'malformed'"
    with pytest.raises(InputError, match=message):
        build_day(logs, store, EIGHT_FILES, BY_DATE, DAY)
    assert store.manifest("examples", DAY) == before
    assert is_built(store, DAY)


def test_a_log_without_rows_of_the_date_says_so(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions()), Store(str(tmp_path / "store"))
    with pytest.raises(InputError, match=r"sources\.impressions: no impressions on 2026-11-21"):
        build_day(logs, store, EIGHT_FILES, BY_DATE, date(2026, 11, 21))
    assert store.dates("examples") == []


def test_a_day_begins_where_its_time_zone_says(spark, tmp_path):
    store = Store(str(tmp_path / "store"))
    rows = [
        row | {"at": f"2026-11-20T{hour}:30:00Z"}
        for row, hour in zip(impressions(3), ("14", "15", "16"), strict=True)
    ]
    logs = logs_of(spark, tmp_path, rows, zone="Asia/Tokyo")  # midnight there is 15:00 UTC
    anything = BuildConfig(quality=QualityConfig(change={}))
    assert build_day(logs, store, anything, BY_DATE, DAY).rows == 1
    assert build_day(logs, store, anything, BY_DATE, date(2026, 11, 21)).rows == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select id, user, item, at from raw", "no column 'clicked'; there are id, user, item, at"),
        ("select * from rows", r"sources\.impressions: .*rows"),
        ("select *, from raw", r"sources\.impressions: .*"),
        (
            "select id, user, cast(item as double) item, at, clicked from raw",
            "column 'item' is double, but features.columns.item says int64",
        ),
        (
            "select id, 7 user, item, at, clicked from raw",
            "column 'user' is int, but features.columns.user says string: write type: int64 there",
        ),
        ("select id, user, item, 5 at, clicked from raw", r"sources\.impressions\.time_unit"),
    ],
)
def test_what_the_log_lacks_is_named_before_anything_is_written(spark, tmp_path, query, message):
    logs, store = logs_of(spark, tmp_path, impressions(20)), Store(str(tmp_path / "store"))
    source = replace(logs.sources.impressions, query=query)
    logs = replace(logs, sources=replace(logs.sources, impressions=source))
    with pytest.raises(InputError, match=message):
        build_day(logs, store, EIGHT_FILES, BY_DATE, DAY)
    assert {p.name for p in (tmp_path / "store").rglob("*")} <= {".writer.lock"}


def test_a_time_of_digits_as_text_is_read_by_its_unit_and_asked_for_it(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions(20)), Store(str(tmp_path / "store"))
    query = "select id, user, item, '1795132800123' at, clicked from raw"  # 2026-11-20 00:00 UTC

    def build(unit: str | None) -> int:
        source = replace(logs.sources.impressions, query=query, time_unit=unit)
        there = replace(logs, sources=replace(logs.sources, impressions=source))
        return build_day(there, store, EIGHT_FILES, BY_DATE, DAY).rows

    with pytest.raises(InputError, match="mostly 'at is a whole number, but no time_unit is set'"):
        build(None)
    assert build("ms") == 20


def test_last_position_holds_one_positive_a_user_out_with_negatives_never_touched(spark, tmp_path):
    # Ten users with forty clicks each on few of the items, one user with two, one with one.
    rows = [
        {
            "id": f"i{n}",
            "user": f"u{n // 40}",
            "item": (n // 40) * 3 + n % 7,
            "at": f"2026-11-20 {n % 40 // 2:02}:{n % 2 * 30:02}:00",
            "clicked": 1,
        }
        for n in range(403)
    ]
    rows[402]["user"] = "u11"
    logs = logs_of(spark, tmp_path, rows, cutoff="impression")
    store, split = Store(str(tmp_path / "store")), SplitConfig(by="last_position")
    config = BuildConfig(negatives=NegativesConfig(per_positive=2))
    manifest = build_day(logs, store, config, split, DAY)
    holdout = store.require("holdout", DAY, "")
    # The first click of a user has no past, the last is held out: 10 * 38 are trained on.
    assert (manifest.rows, holdout.rows) == (380 * 3, 11 * 3)

    vocabulary = {
        (r["vocabulary"], r["id"]): r["key"]
        for m in store.manifests("vocabulary")
        for r in store.read(spark, [m]).collect()
    }
    touched = {(row["user"], str(row["item"])) for row in rows}
    last = {row["user"]: row["item"] for row in rows}
    for role in (manifest, holdout):
        found = store.read(spark, [role]).collect()
        assert len({row["example_id"] for row in found}) == len(found)
        for row in found:
            user, item = vocabulary["user", row["user"]], vocabulary["item", row["item"]]
            assert ((user, item) in touched) == (row["label"] == 1)
            if role is holdout and row["label"] == 1:
                assert str(last[user]) == item
            past = min(5, 39) if user not in ("u10", "u11") else 1
            if role is holdout:
                assert row["clicks__length"] == past


def test_a_user_who_touched_every_item_is_named(spark, tmp_path):
    rows = [row | {"user": "u", "item": 1 + n} for n, row in enumerate(impressions(6))]
    logs = logs_of(spark, tmp_path, [row | {"clicked": 1} for row in rows], cutoff="impression")
    config = BuildConfig(negatives=NegativesConfig())
    with pytest.raises(Exception, match="negatives: no item found that user"):
        build_day(logs, Store(str(tmp_path / "s")), config, SplitConfig("last_position"), DAY)
