"""One date in a table of Spark's catalog is replaced completely or not at all."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.sinks.catalog import to_catalog
from tests.pipelines.sinks.scores import BROKEN, DAY, NEXT, plain, scores, sorted_rows


@pytest.fixture
def table(spark: SparkSession) -> Iterator[str]:
    """The name of a table that does not exist yet."""
    spark.sql("CREATE DATABASE delivered")
    yield "delivered.scores"
    spark.sql("DROP DATABASE delivered CASCADE")


def test_a_table_is_created_and_one_date_of_it_replaced(spark, table):
    for day in (DAY, NEXT):
        to_catalog(scores(spark, day, 10), table, day)
    again = scores(spark, DAY, 6, version=2)
    both = again.union(scores(spark, NEXT, 3, version=2))  # the other date's are left aside
    for _ in range(2):
        to_catalog(both.select(*reversed(both.columns)), table, DAY)
        found = spark.table(table)
        assert sorted_rows(found.where(f"date = '{DAY}'")) == plain(DAY, 6, version=2)
        assert sorted_rows(found.where(f"date = '{NEXT}'")) == plain(NEXT, 10)
    assert spark.conf.get("spark.sql.sources.partitionOverwriteMode").lower() == "static"
    named = f"spark_catalog.{table}"
    to_catalog(scores(spark, NEXT, 2), named, NEXT)
    assert spark.table(named).count() == 8


def test_a_table_is_created_in_the_default_format_of_the_session(spark, table):
    spark.conf.set("spark.sql.sources.default", "orc")
    try:
        to_catalog(scores(spark, DAY, 2), table, DAY)
    finally:
        spark.conf.unset("spark.sql.sources.default")
    described = spark.sql(f"DESCRIBE EXTENDED {table}").where("col_name = 'Provider'")
    assert described.first().data_type == "orc"
    assert sorted_rows(spark.table(table)) == plain(DAY, 2)


def test_a_job_that_fails_while_writing_leaves_the_partition_unchanged(spark, table):
    to_catalog(scores(spark, DAY, 10), table, DAY)
    broken = scores(spark, DAY, 9).withColumn("model", F.expr(BROKEN))
    with pytest.raises(Exception, match="disk"):
        to_catalog(broken, table, DAY)
    spark.catalog.refreshTable(table)
    assert sorted_rows(spark.table(table)) == plain(DAY, 10)


def test_a_table_with_other_columns_is_refused_and_unchanged(spark, table):
    to_catalog(scores(spark, DAY, 4).withColumn("old", F.lit(1)), table, DAY)
    other = scores(spark, DAY, 3).withColumn("rank", F.col("rank").cast("long"))
    with pytest.raises(InputError) as caught:
        to_catalog(other.withColumn("new", F.lit(1)), table, DAY)
    assert str(caught.value) == (
        "score.table: delivered.scores has other columns than the scores (new is missing; old is"
        " not among the scores; rank is int, the scores have bigint): alter it, or name another"
        " table"
    )
    assert spark.table(table).count() == 4


def test_a_table_not_partitioned_by_date_alone_is_refused(spark, table):
    for by in ([], ["model", "date"]):
        scores(spark, NEXT, 4).write.partitionBy(by).saveAsTable(table)
        with pytest.raises(InputError, match=f"partitioned by {', '.join(by) or 'nothing'}, so no"):
            to_catalog(scores(spark, DAY, 3).select(spark.table(table).columns), table, DAY)
        assert spark.table(table).count() == 4
        spark.sql(f"DROP TABLE {table}")


def test_a_missing_database_is_reported_in_one_line(spark):
    with pytest.raises(InputError, match=r"score\.table: nowhere\.scores: .*nowhere") as caught:
        to_catalog(scores(spark, DAY, 3), "nowhere.scores", DAY)
    assert "\n" not in str(caught.value)


def test_an_invalid_table_name_is_refused_before_any_query(spark):
    with pytest.raises(InputError, match=r"score\.table: 'a b' is no table"):
        to_catalog(scores(spark, DAY, 3), "a b", DAY)
