"""Ranks and partitions that must be exact."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.examples.partitioning import exactly_by, with_rank


@pytest.mark.parametrize("partitions", ["1", "3", "11"])
def test_ranks_count_from_0_in_order_across_partitions(
    spark: SparkSession, partitions: str
) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", partitions)
    # Small tables would be sorted in one partition otherwise, and no offset be needed.
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    try:
        rows = spark.range(997).selectExpr("id * 7919 % 997 as number").repartition(5)
        ranked = with_rank(rows, F.col("number").desc()).collect()
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
        spark.conf.unset("spark.sql.adaptive.coalescePartitions.enabled")
    assert sorted((row["rank"], row["number"]) for row in ranked) == [
        (i, 996 - i) for i in range(997)
    ]


def test_no_rows_have_no_ranks(spark: SparkSession) -> None:
    assert with_rank(spark.range(0), "id", name="place").columns == ["id", "place"]
    assert with_rank(spark.range(0), "id").collect() == []


@pytest.mark.parametrize("count", [1, 5, 16])
def test_partition_i_holds_only_value_i(spark: SparkSession, count: int) -> None:
    rows = spark.range(10 * count).selectExpr(f"cast(id % {count} as int) as file")
    placed = exactly_by(rows, "file", count)
    assert placed.rdd.getNumPartitions() == count
    found = placed.groupBy("file", F.spark_partition_id().alias("part")).count().collect()
    assert sorted(map(tuple, found)) == [(i, i, 10) for i in range(count)]
