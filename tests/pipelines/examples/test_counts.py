"""The hash of a date's examples depends on every row, and on nothing else."""

from pyspark.sql import SparkSession

from pipelines.examples.counts import content

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
