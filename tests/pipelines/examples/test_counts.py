"""Counts of ids, and the hash of a date's examples: of every row, and of nothing else."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from din_model.features import PADDING
from pipelines.examples.counts import content, count_ids
from tests.pipelines.examples.test_histories import SPEC, batches, rows_of

ROWS = [(1, 2, 0.0), (3, 4, 1.0), (5, 6, 0.0)]
SCHEMA = "example_id long, item int, label float"


def test_content_is_equal_in_any_order_and_partitions(spark: SparkSession) -> None:
    rows = spark.createDataFrame(ROWS, SCHEMA)
    shuffled = spark.createDataFrame(ROWS[::-1], SCHEMA).repartition(3)
    assert content(rows) == content(shuffled)


def test_content_tells_a_changed_row_and_equal_rows_apart(spark: SparkSession) -> None:
    pairs = [[*ROWS, row, row] for row in ROWS]
    changed = [[*ROWS[:2], (5, 6, 1.0)], ROWS[:2], []]
    contents = [content(spark.createDataFrame(rows, SCHEMA)) for rows in [ROWS, *pairs, *changed]]
    assert len(set(contents)) == 7


def test_a_feature_without_any_value_is_counted_as_nothing(spark, tmp_path):
    rows = [row | {"category": PADDING} for row in rows_of([([], [2, 4], 3)])]
    pq.write_table(pa.Table.from_batches(batches(rows, 9)), tmp_path / "rows.parquet")
    counted = count_ids(spark.read.parquet(str(tmp_path)), SPEC).collect()
    assert {row["vocabulary"] for row in counted} == {"user", "item"}


def test_an_item_is_shown_as_candidate_not_as_a_feature_of_its_vocabulary(spark, tmp_path):
    user, item, category = (SPEC[name] for name in ("user", "item", "category"))
    spec = replace(SPEC, features=(user, item, replace(category, vocabulary=item.vocabulary)))
    rows = [row | {"category": 7} for row in rows_of([([], [], 6)])]
    pq.write_table(pa.Table.from_batches(batches(rows, 9)), tmp_path / "rows.parquet")
    counted = count_ids(spark.read.parquet(str(tmp_path)), spec).where("vocabulary = 'item'")
    found = {id_: numbers for _, id_, *numbers in counted.collect()}
    assert sum(shown for _, shown, _ in found.values()) == 6
    assert sum(clicked for *_, clicked in found.values()) == 3
    assert found[7] == [6, 1, 1], "all examples hold it, and one shows it"
