"""Ids are given once, in an order that no partition or day moves, and decode to their keys."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature
from pipelines.examples import vocabulary
from pipelines.examples.vocabulary import (
    decode,
    encode,
    grow,
    keys_of,
    open_vocabulary,
    require_unique,
)
from pipelines.store.data_sets import VOCABULARY
from pipelines.store.store import Store

FIRST, SECOND, THIRD = date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 21)
ITEM = Feature("item", "item", "int64", "item", 4)
TAGS = Feature("tags", "item", "string", "tag", 4, max_length=3)
AGE = Feature("age", "user", "number", "age", 4, boundaries=(18.0, 30.0))
VALUE = Feature("age", "user", "number", "age", 0, scale="standard")
BIG = 2**53  # from here on doubles skip whole numbers
SEEN = [
    ("item", "b", FIRST),
    ("item", "a", SECOND),
    ("item", "c", FIRST),
    ("tag", "z", FIRST),
    ("item", "b", SECOND),
    ("tag", "y", SECOND),
    ("item", "B", THIRD),
    ("tag", "z", THIRD),
    ("item", "0", THIRD),
]
IDS = [
    *[("item", "b", 2), ("item", "c", 3), ("item", "a", 4), ("item", "0", 5), ("item", "B", 6)],
    *[("tag", "z", 2), ("tag", "y", 3)],
]


def keys(spark: SparkSession, seen: Sequence[tuple[str, str, date]]) -> DataFrame:
    return spark.createDataFrame(seen, "vocabulary string, key string, day date")


def ids(spark: SparkSession, store: Store) -> list[tuple[str, str, int]]:
    rows = [tuple(row) for row in open_vocabulary(spark, store)[0].collect()]
    return sorted(rows, key=lambda row: (row[0], row[2]))


@pytest.mark.parametrize("partitions", [1, 4])
def test_ids_depend_on_first_date_and_key_not_on_partitions(
    spark: SparkSession, tmp_path: Path, partitions: int
) -> None:
    store = Store(str(tmp_path))
    grow(store, THIRD, keys(spark, SEEN[:: 1 if partitions == 1 else -1]).repartition(partitions))
    assert ids(spark, store) == IDS
    assert open_vocabulary(spark, store)[1] == {"item": 7, "tag": 4}


def test_growing_day_by_day_equals_growing_at_once(spark: SparkSession, tmp_path: Path) -> None:
    store, seen_so_far = Store(str(tmp_path)), []
    for day in (FIRST, SECOND, THIRD):
        grow(store, day, keys(spark, [row for row in SEEN if row[2] == day]))
        now = ids(spark, store)
        assert set(now) >= set(seen_so_far)
        seen_so_far = now
    assert seen_so_far == IDS

    again = grow(store, SECOND, keys(spark, [row for row in SEEN if row[2] == SECOND]))
    assert ids(spark, store) == IDS
    assert again.facts["new"] == {}
    firsts = {m.date: m.facts["first_new"] for m in store.manifests(VOCABULARY)}
    assert firsts == {str(FIRST): {}, str(SECOND): {"item": 4, "tag": 3}, str(THIRD): {"item": 5}}
    grow(store, SECOND, keys(spark, [*SEEN, ("item", "late", SECOND)]))
    assert ids(spark, store) == [*IDS[:5], ("item", "late", 7), *IDS[5:]]


def test_long_whole_numbers_and_odd_texts_stay_exact(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    odd = [str(BIG), str(BIG + 1), str(2**63 - 1), str(-(2**63)), "", " ", "é", "E", "e", "e\x00"]
    grow(store, FIRST, keys(spark, [("item", key, FIRST) for key in odd]))
    assert {key for _, key, _ in ids(spark, store)} == set(odd)
    rows = spark.createDataFrame(list(enumerate(odd)), "number int, item string")
    encoded = encode(rows, [ITEM], open_vocabulary(spark, store)[0])
    assert len({row["item"] for row in encoded.collect()}) == len(odd)
    decoded = decode(encoded, "item", F.lit(ITEM.vocabulary), open_vocabulary(spark, store)[0])
    assert {row["number"]: row["item"] for row in decoded.collect()} == dict(enumerate(odd))


def test_unknown_and_null_encode_to_1_and_lists_keep_order(spark: SparkSession) -> None:
    vocabulary = spark.createDataFrame(
        [("item", "7", 2), ("tag", "7", 9), ("tag", "x", 3), ("tag", "y", 4)],
        "vocabulary string, key string, id int",
    )
    rows = spark.createDataFrame(
        [
            (0, "7", ["y", "x", "y", "x"], 17.9),
            (1, "x", ["new", None, "x"], 18.0),
            (2, None, [], 30.0),
            (3, "07", None, None),
            (4, "7", ["x"], float("nan")),
        ],
        "number int, item string, tags array<string>, age double",
    )
    found = encode(rows, [ITEM, TAGS, AGE], vocabulary).orderBy("number").collect()
    assert [tuple(row[c] for c in ("item", "tags", "age")) for row in found] == [
        (2, [4, 3, 4], 2),
        (1, [1, 1, 3], 3),
        (1, [], 4),
        (1, [], 1),
        (2, [3], 1),
    ]


@pytest.mark.parametrize("value", [None, "nan", "inf", "-inf", "1e39", "-1e308"])
def test_a_value_that_is_missing_or_not_finite_in_32_bits_is_nan(
    spark: SparkSession, value
) -> None:
    rows = spark.createDataFrame([(value,), ("2.5",)], "age string")
    rows = rows.select(F.col("age").cast("double"))
    found = encode(rows, [VALUE], rows).toPandas()["age"]
    assert found.dtype == "float32"
    assert found.isna().tolist() == [True, False]


def test_keys_are_taken_from_every_feature_but_numbers_with_the_day_of_the_row(
    spark: SparkSession,
) -> None:
    noon = 1_795_089_600_000_000  # 2026-11-19 12:00 UTC
    rows = spark.createDataFrame(
        [("7", ["x", None, "y"], 20.0, noon), (None, None, 20.0, noon + 86_400_000_000)],
        "item string, tags array<string>, age double, time long",
    )
    found = {tuple(row) for row in keys_of(rows, [ITEM, TAGS, AGE]).collect()}
    assert {(vocabulary, key) for _, vocabulary, key in found} == {
        *[("item", "7"), ("tag", "x"), ("tag", "y")]
    }
    assert {day for day, _, _ in found} == {FIRST}


@pytest.mark.parametrize(
    ("double", "message"),
    [
        (("item", "a", 3), "vocabulary: key 'a' of item is there 2 times"),
        (("item", "b", 2), "vocabulary: id 2 of item is there 2 times"),
    ],
)
def test_a_key_or_id_that_is_there_twice_is_refused(spark, double, message):
    rows = [("item", "a", 2), ("tag", "a", 2)]
    columns = "vocabulary string, key string, id int"
    once, twice = (spark.createDataFrame(each, columns) for each in (rows, [*rows, double]))
    require_unique(once, once)
    with pytest.raises(InputError, match=message):
        require_unique(twice, twice)


def test_a_part_with_an_id_twice_is_not_published(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "with_rank", lambda rows, *_: rows.withColumn("rank", F.lit(0)))
    store, keys = (
        Store(str(tmp_path)),
        spark.createDataFrame(SEEN, "vocabulary string, key string, day date"),
    )
    with pytest.raises(InputError, match="of item is there 5 times"):
        grow(store, FIRST, keys)
    assert store.dates("vocabulary") == []
