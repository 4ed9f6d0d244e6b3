"""Attributes are those that held at the cutoff, and never later ones."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from din_model.errors import InputError
from pipelines.examples.negatives import NegativesConfig, with_negatives
from pipelines.examples.vocabulary import encode
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, SideTable, Source, SourcesConfig
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12)
COLUMNS = {
    "user": ColumnConfig(side="user"),
    "city": ColumnConfig(side="user"),
    "item": ColumnConfig(side="item"),
    "price": ColumnConfig(side="item"),
}
HISTORY = {"clicks": KindConfig({"item": "item", "price": "price"})}


def logs_of(
    spark, folder: Path, shown: list[tuple], prices: list[tuple], cutoff: Any = "impression"
) -> Logs:
    """Impressions (user, item, at), and prices (item, price, since)."""
    spark.createDataFrame(shown, "user string, item string, at timestamp").selectExpr(
        "*", "1 as clicked"
    ).write.parquet(f"{folder}/shown")
    table = spark.createDataFrame(prices, "item string, price string, since timestamp")
    table.write.parquet(f"{folder}/prices")
    cities = [("u", "Oslo", datetime(2020, 1, 1)), ("u", "Rome", NOON), ("v", "Bonn", None)]
    spark.createDataFrame(cities, "user string, city string, since timestamp").write.parquet(
        f"{folder}/cities"
    )
    features = FeaturesConfig(
        user="user", item="item", time="at", label="clicked", columns=COLUMNS, counters={}
    )
    return Logs(
        spark,
        SourcesConfig(
            Source(path=f"{folder}/shown"),
            (BehaviourSource(path=f"{folder}/shown"),),
            items=SideTable(path=f"{folder}/prices", valid_from="since"),
            users=SideTable(path=f"{folder}/cities", valid_from="since"),
            candidates=Source(path=f"{folder}/shown", query="select distinct user, item from raw"),
        ),
        feature_spec(features, HistoryConfig(HISTORY, cutoff)),
        None,
    )


@pytest.mark.parametrize("cutoff", ["impression", "day"])
def test_side_rows_are_those_valid_at_the_cutoff_or_at_the_behaviour(spark, tmp_path, cutoff):
    rng = np.random.default_rng(3)
    start = datetime(2026, 11, 18)
    hours = rng.choice(72, 30, replace=False)
    prices = [(f"i{n % 3}", f"p{n}", start + timedelta(hours=int(h))) for n, h in enumerate(hours)]
    moments = rng.choice(24 * 60, 40, replace=False)
    shown = [
        ("u", f"i{rng.integers(4)}", datetime(2026, 11, 20) + timedelta(minutes=int(m)))
        for m in moments
    ] + [("v", "i0", prices[0][2])]

    def price(item: str, at: datetime) -> str | None:
        held = [(since, p) for i, p, since in prices if i == item and since <= at]
        return max(held)[1] if held else None

    logs = logs_of(spark, tmp_path, shown, prices, cutoff)
    midnight = datetime(2026, 11, 20)
    found = logs.impressions(None, DAY + timedelta(days=1)).collect()
    assert len(found) == 41
    for row in found:
        at = datetime.fromtimestamp(row["time"] / 1e6)
        at = at if cutoff == "impression" else at.replace(hour=0, minute=0)
        assert row["price"] == price(row["item"], at)
        city = "Bonn" if row["user"] == "v" else "Oslo" if at < NOON else "Rome"
        assert row["city"] == city
    for row in logs.behaviours(None, DAY + timedelta(days=1)).collect():
        assert row["price"] == price(row["item"], datetime.fromtimestamp(row["time"] / 1e6))
    for row in logs.candidates(DAY).collect():
        assert row["price"] == price(row["item"], midnight)
        assert row["city"] == {"u": "Oslo", "v": "Bonn"}[row["user"]]


def test_a_history_of_an_attribute_alone_is_looked_up_by_the_item(spark, tmp_path):
    since = datetime(2026, 11, 1)
    logs = logs_of(
        spark, tmp_path, [("u", "i0", NOON), ("u", "i1", NOON)],
        [("i0", "cheap", since), ("i1", "dear", since)],
    )  # fmt: skip
    (history,) = logs.spec.histories
    alone = replace(history, fields={"price": "price"})
    logs = replace(logs, spec=replace(logs.spec, histories=(alone,)))
    found = logs.behaviours(NOON.date(), NOON.date())
    assert sorted(row["price"] for row in found.collect()) == ["cheap", "dear"]
    assert "item" not in found.columns


def test_a_sampled_item_has_the_attributes_valid_at_its_time(spark, tmp_path):
    prices = [("i0", "old", datetime(2026, 1, 1)), ("i0", "new", NOON), ("i1", "x", NOON)]
    shown = [("u", "i1", NOON - timedelta(hours=1)), ("v", "i1", NOON + timedelta(hours=1))]
    logs = logs_of(spark, tmp_path, shown, prices)
    keys = [("user", "u", 2), ("user", "v", 3), ("item", "i0", 2), ("item", "i1", 3)]
    keys += [("price", "old", 2), ("price", "new", 3), ("price", "x", 4)]
    vocabulary = spark.createDataFrame(keys, "vocabulary string, key string, id int")
    rows = logs.impressions(None, DAY).drop("reason", "raw", "city").selectExpr("*", "time cutoff")
    features = [f for f in logs.spec.features if f.name != "city"]
    positives = encode(rows, features, vocabulary)
    touched = positives.select("user", "item")
    drawn = with_negatives(
        positives, touched, logs, vocabulary, {"item": 4}, NegativesConfig(), DAY
    )
    found = {(r["user"], r["item"]): r["price"] for r in drawn.where("label = 0").collect()}
    assert found == {(2, 2): 2, (3, 2): 3}


def test_a_lost_date_uses_the_snapshot_before_it(spark, tmp_path):
    logs = logs_of(spark, tmp_path, [("u", "i0", NOON)], [])
    (tmp_path / f"{DAY}.json").write_text('{"item": "i0", "price": "kept"}\n')
    items = SideTable(path=f"{tmp_path}/{{date}}.json", format="json")
    after = DAY + timedelta(days=1)
    sources = replace(logs.sources, items=items, lost_dates=(after,))
    table = replace(logs, sources=sources).side_tables.latest("items", [logs.spec["price"]], after)
    assert [tuple(row) for row in table.collect()] == [("i0", "kept")]


def test_items_are_named_by_what_their_table_has(spark, tmp_path):
    logs = logs_of(spark, tmp_path, [("u", "i0", NOON)], [("i0", "cheap", NOON)])
    in_the_log = replace(logs.spec["price"], name="shelf", vocabulary="shelf")
    table = logs.side_tables.latest("items", [logs.spec["price"], in_the_log], DAY)
    assert [tuple(row) for row in table.collect()] == [("i0", "cheap")]


def test_a_sampled_item_that_its_table_lacks_has_an_empty_list(spark, tmp_path):
    logs = logs_of(spark, tmp_path, [("u", "i1", NOON)], [("i1", "x", datetime(2026, 1, 1))])
    features = [replace(f, max_length=2 * (f.name == "price")) for f in logs.spec.features]
    history = replace(logs.spec.histories[0], fields={"item": "item"})
    logs = replace(logs, spec=replace(logs.spec, features=tuple(features), histories=(history,)))
    spark.createDataFrame([("i1", ["x"])], "item string, price array<string>").write.parquet(
        f"{tmp_path}/lists"
    )
    items = SideTable(path=f"{tmp_path}/lists")
    logs = replace(logs, sources=replace(logs.sources, items=items))
    keys = [("item", "i0", 2), ("item", "i1", 3), ("price", "x", 2), ("user", "u", 2)]
    vocabulary = spark.createDataFrame(keys, "vocabulary string, key string, id int")
    rows = logs.impressions(None, DAY).drop("reason", "raw", "city").selectExpr("*", "time cutoff")
    encoded = [f for f in logs.spec.features if f.name != "city"]
    positives = encode(rows, encoded, vocabulary)
    drawn = with_negatives(
        positives, positives.select("user", "item"), logs, vocabulary, {"item": 4},
        NegativesConfig(), DAY,
    )  # fmt: skip
    found = {(row["item"], tuple(row["price"])) for row in drawn.collect()}
    assert found == {(3, (2,)), (2, ())}


def test_a_key_of_a_side_table_may_be_a_decimal_but_not_a_fraction(spark, tmp_path):
    logs = logs_of(spark, tmp_path, [("u", "i0", NOON)], [])
    (tmp_path / "items.json").write_text(
        '{"item": 7.0, "price": "a"}\n{"item": 7.5, "price": "b"}\n'
    )
    sources = replace(logs.sources, items=SideTable(path=f"{tmp_path}/items.json", format="json"))
    number = replace(logs.spec["item"], type="int64")
    features = tuple(number if f.name == "item" else f for f in logs.spec.features)
    logs = replace(logs, sources=sources, spec=replace(logs.spec, features=features))
    table = logs.side_tables.latest("items", [logs.spec["price"]], DAY)
    assert [tuple(row) for row in table.collect()] == [("7", "a")]


def test_duplicate_valid_from_and_a_missing_column_are_errors(spark, tmp_path):
    prices = [("i0", "a", NOON), ("i0", "b", NOON)]
    logs = logs_of(spark, tmp_path, [("u", "i0", NOON)], prices)
    with pytest.raises(InputError, match=r"items: item 'i0' has 2 rows valid from the same"):
        logs.impressions(None, DAY)
    items = replace(logs.sources.items, valid_from="until")
    logs = replace(logs, sources=replace(logs.sources, items=items))
    with pytest.raises(InputError, match=r"items\.valid_from: no column 'until' among item"):
        logs.impressions(None, DAY)
