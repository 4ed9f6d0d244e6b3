"""Candidates by rule are those that plain Python picks from the same rows."""

import shutil
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from din_model.config import build
from din_model.errors import InputError
from pipelines.examples.state import advance
from pipelines.examples.vocabulary import encode, grow, keys_of, open_vocabulary, padded
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, SideTable, Source, SourcesConfig, start_of
from pipelines.scoring.candidates import CandidatesConfig, _by, _liked, candidates, generated
from pipelines.scoring.scorer import encode_candidates
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store

FIRST = date(2026, 11, 20)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
LAST, SCORED = DAYS[-1], DAYS[-1] + timedelta(days=1)
SCHEMA = (
    "user string, vip string, item bigint, category string, price double, tags array<string>,"
    " at timestamp, clicked int"
)
FEATURES = FeaturesConfig(
    counters={},
    user="user", item="item", time="at", label="clicked",
    columns={
        "user": ColumnConfig(side="user"),
        "vip": ColumnConfig(side="user"),
        "item": ColumnConfig(side="item", type="int64"),
        "category": ColumnConfig(side="item"),
        "price": ColumnConfig(side="item", type="number", boundaries=(10.0, 20.0)),
        "tags": ColumnConfig(side="item", vocabulary="tag", max_length=3),
        "place": ColumnConfig(side="context", type="int64", serving_default=1),
    },
)  # fmt: skip
LENGTH, LAG = 4, timedelta(hours=6)
HISTORY = HistoryConfig(
    {"clicks": KindConfig({"item": "item", "category": "category"}, lag="6h")}, length=LENGTH
)


def impressions() -> list[dict[str, Any]]:
    """Three days; items 10 and 11 begin on the second, 12 and 13 on the third, as does user u7.

    u6 is there on the first day alone, and u5 only then clicks; u8 clicks nothing and leaves.
    """
    rng, rows = np.random.default_rng(5), []
    for n, day in enumerate(DAYS):
        users = [["u6", "u8"], [], ["u7"]][n] + [f"u{i}" for i in range(6)]
        minutes = rng.choice(24 * 60, 45, replace=False)
        for i, minute in enumerate(minutes):
            user, item = users[i % len(users)], int(rng.integers(0, 10 + 2 * n))
            clicks = user == "u6" or (user not in ("u7", "u8") and rng.random() < 0.4)
            clicks = clicks and not (user == "u5" and n)
            rows.append(
                {
                    "user": user,
                    "vip": "yes" if (i + n) % 3 else "no",
                    "item": item,
                    "category": None if i % 7 == 3 else "abcd"[(item + (item == 2) * n) % 4],
                    "price": None if i % 5 == 0 else float(3 * item),
                    "tags": [f"t{item % 3}", f"s{n}"][: item % 3],
                    "at": datetime(day.year, day.month, day.day) + timedelta(minutes=int(minute)),
                    "clicked": int(clicks),
                }
            )
    return rows


ROWS = impressions()


def logs_of(spark, folder: str, rows: list[dict[str, Any]]) -> Logs:
    spark.createDataFrame(rows, SCHEMA).selectExpr("*", "1L place").write.parquet(f"{folder}/log")
    return Logs(
        spark,
        SourcesConfig(
            impressions=Source(path=f"{folder}/log"),
            behaviours=(BehaviourSource(origin="impressions", label_delay="0s"),),
        ),
        feature_spec(FEATURES, HISTORY),
        FIRST,
    )


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    """Publish what three built days leave, without their histories: candidates read none."""
    folder = tmp_path_factory.mktemp("candidates")
    logs, store = logs_of(spark, str(folder), ROWS), Store(str(folder / "store"))
    spec, tags = logs.spec, logs.spec["tags"]
    for day in DAYS:
        rows = logs.impressions(day, day).drop("reason", "raw").persist()
        grow(store, day, keys_of(rows, spec.features))
        rows = encode(rows, spec.features, open_vocabulary(spark, store)[0])
        rows = rows.select(*(c for c in rows.columns if c != "tags"), *padded(tags)).persist()
        # A sample of the last day is trained on; what is popular must come from all of it.
        rate = 0.3 if day == LAST else 1.0
        sampled = rows.where("label = 1 or pmod(example_id, 10) < 3") if day == LAST else rows
        store.publish("examples", day, sampled, {"sample_rate": rate})
        if day == LAST:
            store.publish("holdout", day, rows, {"sample_rate": 1.0})
    done = logs.behaviours(FIRST, LAST).drop("reason", "raw")
    done = encode(
        done, [spec["user"], spec["item"], spec["category"]], open_vocabulary(spark, store)[0]
    )
    end = start_of(SCORED, spec.time_zone)
    state = advance(None, done, spec, end)
    for day, rows in ((FIRST, state.limit(0)), (LAST, state)):
        store.publish("state", day, rows, {})
    return SimpleNamespace(logs=logs, store=store)


def day_of(row: dict[str, Any]) -> date:
    return row["at"].date()


def histories() -> dict[str, list[dict[str, Any]]]:
    """The newest clicks of each user whose lag has passed when the day to be scored begins."""
    midnight = datetime(SCORED.year, SCORED.month, SCORED.day)
    clicks = sorted((r for r in ROWS if r["clicked"]), key=lambda r: r["at"])
    users: dict[str, list] = {row["user"]: [] for row in clicks}
    for row in clicks:
        if row["at"] + LAG < midnight:
            users[row["user"]].append(row)
    return {user: rows[-LENGTH:] for user, rows in users.items()}


def by_popularity() -> list[int]:
    today = [r for r in ROWS if day_of(r) == LAST]
    shown = Counter(r["item"] for r in today)
    clicks = Counter(r["item"] for r in today if r["clicked"])
    return sorted(shown, key=lambda i: (-clicks[i], -shown[i], str(i)))


def newest(rows: list[dict[str, Any]], name: str) -> Any:
    known = [r for r in rows if r[name] not in (None, [])]
    return max(known, key=lambda r: r["at"])[name] if known else None


def share_out(times: dict[Any, int], lists: dict[Any, list], count: int) -> set:
    values = sorted((v for v in times if lists.get(v)), key=lambda v: (-times[v], v))
    total = sum(times[v] for v in values)
    given = {v: min(len(lists[v]), count * times[v] // total) for v in values}
    for v in values:
        given[v] += min(count - sum(given.values()), len(lists[v]) - given[v])
    return {item for v in values for item in lists[v][: given[v]]}


def expected(config: CandidatesConfig) -> set[tuple[str, int]]:
    past, popular = histories(), by_popularity()
    users = {*past, *(r["user"] for r in ROWS if day_of(r) == LAST)}
    first = {i: min(day_of(r) for r in ROWS if r["item"] == i) for i in range(14)}
    days = DAYS[-config.new_days :]
    shown = Counter(r["item"] for r in ROWS if day_of(r) in days)
    new = [i for i in first if first[i] in days and first[i] != FIRST]
    new.sort(key=lambda i: (-first[i].toordinal(), -shown[i], str(i)))
    lists: dict[Any, list] = {}
    for item in popular:
        today = [r for r in ROWS if day_of(r) == LAST and r["item"] == item]
        lists.setdefault(newest(today, "category"), []).append(item)
    lists.pop(None, None)
    pairs = set()
    for user in users:
        mine = past.get(user, [])
        offered = {*popular[: config.popular], *new[: config.new]}
        times = Counter(r["category"] for r in mine if r["category"])
        offered |= share_out(times, lists, config.of_categories) if times else set()
        offered -= {r["item"] for r in mine} if config.exclude_seen else set()
        pairs |= {(user, item) for item in offered}
    return pairs


def pairs_of(rows) -> list[tuple[str, int]]:
    return sorted((r["user"], int(r["item"])) for r in rows.select("user", "item").collect())


@pytest.mark.parametrize(
    "config",
    [
        CandidatesConfig(popular=5),  # a tie of clicks and shown lies there
        CandidatesConfig(new=3, new_days=2),
        CandidatesConfig(new=99, new_days=9, exclude_seen=True),
        CandidatesConfig(of_categories=7, by="category"),
        CandidatesConfig(popular=3, of_categories=2, new=1, exclude_seen=True),
    ],
    ids=str,
)
def test_every_rule_equals_plain_python_without_duplicates(built, config):
    found = pairs_of(generated(built.logs, built.store, SCORED, config))
    assert found == sorted(expected(config))
    assert len(set(found)) == len(found)


def test_the_generated_rows_cover_every_rule():
    past, everybody = histories(), {u for u, _ in expected(CandidatesConfig(popular=1))}
    assert {"u6", "u7"} <= everybody, "with a history only, and shown something only"
    assert "u7" not in past
    assert "u8" not in everybody
    assert any(len({r["category"] for r in rows}) > 1 for rows in past.values())
    late = [r for r in ROWS if day_of(r) == LAST and r["clicked"] and r["at"].hour >= 18]
    assert late, "clicks whose lag has not passed at midnight"
    everything = CandidatesConfig(popular=3, of_categories=5, new=2)
    assert expected(everything) != expected(replace(everything, exclude_seen=True))


def test_users_without_a_history_get_what_is_popular_and_new(built):
    config = CandidatesConfig(popular=3, of_categories=5, new=2)
    found = pairs_of(generated(built.logs, built.store, SCORED, config))
    for_all = expected(replace(config, of_categories=0))
    assert {item for user, item in found if user == "u7"} == {i for u, i in for_all if u == "u7"}
    assert found == sorted(expected(config))


def test_attributes_that_come_with_impressions_are_the_newest_known(built):
    rows = generated(built.logs, built.store, SCORED, CandidatesConfig(popular=20)).collect()
    today = [r for r in ROWS if day_of(r) == LAST]
    for row in rows:
        of_item = [r for r in today if r["item"] == int(row["item"])]
        of_user = [r for r in today if r["user"] == row["user"]]
        assert row["category"] == newest(of_item, "category")
        assert row["vip"] == newest(of_user, "vip"), "null for whom the day did not show"
        assert row["tags"] == newest(of_item, "tags")
        price = newest(of_item, "price")
        known = [b for b in (-np.inf, 10.0, 20.0) if price is not None and b <= price]
        assert row["price"] == (max(known) if known else None), "the bucket's lower end"
        assert (row["place"], row["reason"], row["raw"]) == ("1", None, None)
    assert {row["vip"] for row in rows} == {"yes", "no", None}
    assert {len(row["tags"] or ()) for row in rows} == {0, 1, 2}


def test_generated_candidates_equal_a_given_table(spark, built, tmp_path):
    """Also where the items' attributes lie in a side table."""
    table = [(i, f"c{i % 2}", 5.0 * i, [f"t{i}"]) for i in range(12)]
    columns = "item bigint, category string, price double, tags array<string>"
    spark.createDataFrame(table, columns).write.parquet(f"{tmp_path}/items")
    beside = replace(built.logs.sources, items=SideTable(path=f"{tmp_path}/items"))
    vocabulary, _ = open_vocabulary(spark, built.store)
    for name, sources in {"own": built.logs.sources, "beside": beside}.items():
        logs = replace(built.logs, sources=sources)
        made = generated(logs, built.store, SCORED, CandidatesConfig(popular=12))
        own = ["category", "price", "tags"] if name == "own" else []
        told = made.select("user", "vip", F.col("item").cast("bigint"), *own)
        told.write.parquet(f"{tmp_path}/{name}")
        given = replace(sources, candidates=Source(path=f"{tmp_path}/{name}"))
        given = candidates(
            replace(logs, sources=given), built.store, SCORED, CandidatesConfig(popular=1)
        )
        assert [(f.name, f.dataType) for f in made.schema] == [
            (f.name, f.dataType) for f in given.schema
        ]
        assert sorted(map(str, made.collect())) == sorted(map(str, given.collect()))
        good = [r.where("reason is null").drop("reason", "raw") for r in (made, given)]
        one, other = (encode_candidates(r, logs.spec, vocabulary).collect() for r in good)
        assert sorted(map(str, one)) == sorted(map(str, other))
        assert len(one) > 50
    prices = {(int(r["item"]), r["price"]) for r in made.collect()}
    assert (9, 45.0) in prices
    assert any(i > 11 and price is None for i, price in prices)


def test_generated_candidates_do_not_depend_on_partitions(spark, built):
    config = CandidatesConfig(popular=3, of_categories=3, new=2, new_days=2, exclude_seen=True)
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        found = pairs_of(generated(built.logs, built.store, SCORED, config))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    assert found == sorted(expected(config))


def test_items_are_allocated_by_share_until_none_is_left(spark):
    rng = np.random.default_rng(1)
    lists = {v: list(range(100 * v, 100 * v + int(rng.integers(0, 6)))) for v in range(2, 9)}
    times = {u: Counter(map(int, rng.integers(2, 11, rng.integers(1, 9)))) for u in range(60)}
    held = [(u, v) for u, counted in times.items() for v in counted.elements()]
    top = [(v, n + 1, i) for v, items in lists.items() for n, i in enumerate(items)]
    held_rows = spark.createDataFrame(held, "_user int, _value int")
    top_rows = spark.createDataFrame(top, "_value int, _place int, _item int")
    for count in (1, 4, 9):
        found = {r[0]: r[1] for r in _liked(held_rows, top_rows, count).collect()}
        meant = {u: share_out(t, lists, count) for u, t in times.items()}
        assert {u: set(items) for u, items in found.items()} == {
            u: m for u, m in meant.items() if m
        }
        assert all(len(items) == len(set(items)) <= count for items in found.values())


def test_without_any_history_no_category_is_used(spark, built, tmp_path):
    shutil.copytree(built.store.base, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    state = store.require("state", LAST, "")
    store.publish("state", LAST, store.read(spark, [state]).where("false"), state.facts)
    asked = CandidatesConfig(popular=2, of_categories=2, exclude_seen=True)
    popular = by_popularity()[:2]
    users = {row["user"] for row in ROWS if day_of(row) == LAST}
    found = pairs_of(generated(built.logs, store, SCORED, asked))
    assert found == sorted((user, item) for user in users for item in popular)
    with pytest.raises(InputError, match="candidates: nothing is generated for 2026-11-23"):
        generated(built.logs, store, SCORED, CandidatesConfig(of_categories=5))


def test_on_the_first_date_of_a_store_nothing_is_new(built):
    with pytest.raises(InputError, match="candidates: nothing is generated for 2026-11-21"):
        generated(built.logs, built.store, DAYS[1], CandidatesConfig(new=5))


def test_the_vectors_of_items_are_no_categories():
    columns = FEATURES.columns | {"look": ColumnConfig("item", "vector", dimension=2)}
    spec = feature_spec(replace(FEATURES, columns=columns), HISTORY)
    assert "look" in spec.histories[0].fields
    assert _by(spec, CandidatesConfig(of_categories=1)) == "category"


def test_impossible_rules_are_reported_in_one_line(built):
    logs, store = built.logs, built.store
    with pytest.raises(InputError, match=r"sources\.candidates is not set: .* section candidates"):
        candidates(logs, store, SCORED, None)
    with pytest.raises(InputError, match=r"nothing is published for 2026-11-29: run jobs\.build"):
        candidates(logs, store, date(2026, 11, 30), CandidatesConfig(popular=1))

    def with_fields(*fields: str) -> Logs:
        history = replace(logs.spec.histories[0], fields={name: name for name in fields})
        return replace(logs, spec=replace(logs.spec, histories=(history,)))

    asked = CandidatesConfig(of_categories=1)
    with pytest.raises(InputError, match=r"of_categories needs it; .* of an item: category, price"):
        generated(with_fields("item", "category", "price"), store, SCORED, asked)
    with pytest.raises(InputError, match="nothing but 'item'"):
        generated(with_fields("item"), store, SCORED, asked)
    with pytest.raises(InputError, match=r"candidates\.by: 'brand' is in no history; .*: category"):
        generated(logs, store, SCORED, replace(asked, by="brand"))
    with pytest.raises(
        InputError, match=r"candidates\.exclude_seen: no kind of history has 'item'"
    ):
        generated(with_fields("category"), store, SCORED, replace(asked, exclude_seen=True))


def test_a_section_that_asks_for_nothing_is_refused():
    with pytest.raises(InputError, match="no candidates are configured: set popular, of_cat"):
        build(CandidatesConfig, {}, "conf")
