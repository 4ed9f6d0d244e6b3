"""A day's logs become examples: none lost or doubled, broken rows set aside, files alike."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.examples.build import build_day
from pipelines.examples.negatives import NegativesConfig
from pipelines.examples.origin import is_built
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, Source, SourcesConfig
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store

DAY = date(2026, 11, 20)
NEXT = DAY + timedelta(days=1)
SCHEMA = "id string, user string, item bigint, at string, clicked int"
FEATURES = FeaturesConfig(
    counters={},
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


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One day of 401 impressions, built once."""
    folder = tmp_path_factory.mktemp("built")
    store = Store(str(folder / "store"))
    build_day(logs_of(spark, folder, impressions()), store, EIGHT_FILES, BY_DATE, DAY)
    return store


@pytest.fixture
def copy(built: Store, tmp_path: Path) -> Store:
    return Store(str(shutil.copytree(built.base, tmp_path / "store")))


def test_files_of_a_day_differ_by_one_row_and_hold_a_history_once(spark, built):
    manifest = built.require("examples", DAY, "")
    assert sorted(file.rows for file in manifest.files) == [50] * 7 + [51]
    assert {f.row_groups for f in manifest.files} == {1}
    files = []
    for url in built.urls(manifest):
        rows = spark.read.parquet(url).collect()
        users = [row["user"] for row in rows]
        begins = [n == 0 or user != users[n - 1] for n, user in enumerate(users)]
        assert sum(begins) == len(set(users)), "the rows of a user follow each other"
        assert [row["clicks__item"] is not None for row in rows] == begins
        files.append(set(users))
    first = [min(users) for users in files]
    assert first != sorted(first), "users come in a seeded order, not in that of their ids"
    shared = sum(map(len, files)) - len(set().union(*files))
    assert shared <= len(files) - 1, "only a user at the end of a file is in the next one, too"
    assert is_built(built, DAY)


def test_building_again_gives_the_same_files(spark, built, copy, tmp_path):
    manifest = build_day(logs_of(spark, tmp_path, impressions()), copy, EIGHT_FILES, BY_DATE, DAY)

    def rows(store: Store) -> list[str]:
        urls = store.urls(store.require("examples", DAY, ""))
        return sorted(str(spark.read.parquet(url).collect()) for url in urls)

    assert manifest.id != built.require("examples", DAY, "").id
    assert rows(copy) == rows(built)
    counts = [store.require("counts", DAY, "").facts["content"] for store in (built, copy)]
    assert counts[0] == counts[1]


def test_a_day_whose_state_alone_was_replaced_is_not_built(spark, copy):
    state = copy.require("state", DAY, "")
    copy.publish("state", DAY, copy.read(spark, [state]), state.facts)
    assert not is_built(copy, DAY)


def test_too_many_broken_rows_stop_the_build_and_keep_the_published_date(spark, copy, tmp_path):
    before = copy.manifest("examples", DAY)
    logs = logs_of(spark, tmp_path, [*impressions(), *["{"] * 20])
    message = r"sources\.impressions: 20 of 421 rows of 2026-11-20 are broken, mostly 'malformed'"
    with pytest.raises(InputError, match=message):
        build_day(logs, copy, EIGHT_FILES, BY_DATE, DAY)
    assert copy.manifest("examples", DAY) == before
    assert is_built(copy, DAY)


def test_a_log_without_rows_of_the_date_says_so(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions(20)), Store(str(tmp_path / "store"))
    with pytest.raises(InputError, match=r"sources\.impressions: no impressions on 2026-11-21"):
        build_day(logs, store, EIGHT_FILES, BY_DATE, NEXT)
    assert store.dates("examples") == []


def test_a_day_unlike_the_last_one_is_held_back(spark, copy, tmp_path):
    before = copy.manifest("examples", DAY)
    unclicked = [row | {"at": f"{NEXT} 12:00:00", "clicked": 0} for row in impressions(400)]
    logs = logs_of(spark, tmp_path, unclicked)
    with pytest.raises(InputError, match=r"label_rate is 0, but was 0\.201995 on 2026-11-20"):
        build_day(logs, copy, EIGHT_FILES, BY_DATE, NEXT)
    assert copy.dates("examples") == copy.dates("state") == copy.dates("vocabulary") == [DAY]
    assert copy.manifest("examples", DAY) == before


def test_a_second_build_in_a_store_is_refused(spark, copy, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(20))
    with copy.sole_writer(), pytest.raises(InputError, match="another job is building"):
        build_day(logs, copy, EIGHT_FILES, BY_DATE, DAY)


@pytest.mark.parametrize(
    "query", ["select id, user, item, at from raw", "select id, 7 user, item, at, clicked from raw"]
)
def test_a_wrong_column_is_named_before_anything_is_written(spark, tmp_path, query):
    logs, store = logs_of(spark, tmp_path, impressions(20)), Store(str(tmp_path / "store"))
    source = replace(logs.sources.impressions, query=query)
    logs = replace(logs, sources=replace(logs.sources, impressions=source))
    with pytest.raises(InputError, match=r"sources\.impressions"):
        build_day(logs, store, EIGHT_FILES, BY_DATE, DAY)
    assert {p.name for p in (tmp_path / "store").rglob("*")} <= {".writer.lock"}


def test_last_position_holds_out_one_positive_per_user_with_untouched_negatives(spark, tmp_path):
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
