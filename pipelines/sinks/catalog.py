"""Copies published scores into a table of Spark's catalog, for readers that use SQL.

Only published scores are copied. If a copy fails, run the job again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from din_model.console import stage
from din_model.errors import InputError
from pipelines.columns import column
from pipelines.sinks.checks import require_by_date
from pipelines.sinks.names import TABLE, identifiers

MODE = "spark.sql.sources.partitionOverwriteMode"


def to_catalog(rows: DataFrame, table: str, day: date) -> None:
    """Replace the partition of ``day`` in a table of the catalog; other dates do not change.

    A missing table is created in the session's default format (``spark.sql.sources.default``:
    Parquet in open-source Spark, Delta on Databricks; an Iceberg catalog makes Iceberg tables),
    partitioned by date. An existing one may have any format that Spark can overwrite by partition.
    Spark deletes the old rows after it has written the new ones, so a job that fails earlier leaves
    them. While it deletes them, a reader of a Parquet table may see neither; formats with
    transactions prevent that.

    Args:
        rows: not empty, with ``date`` as string.
        table: one to three names, ``catalog.database.table``.
        day: the date to replace.

    Raises:
        InputError: an invalid name, a table with other columns or partitions, or one that the
            catalog does not allow to create or write.
    """
    quoted = ".".join(f"`{name}`" for name in identifiers(table, TABLE, 3))
    spark = rows.sparkSession
    with stage(f"{day} to {table}"), _one_line(table):
        empty = rows.limit(0).write.partitionBy("date")
        empty.mode("ignore").saveAsTable(quoted)
        _require_same_columns(spark.table(quoted).schema, rows.schema, table)
        partitions = [c.name for c in spark.catalog.listColumns(quoted) if c.isPartition]
        require_by_date(TABLE, table, partitions)
        of_day = rows.where(F.col("date") == str(day)).select(
            *map(column, spark.table(quoted).columns)
        )
        with _by_partition(spark):
            of_day.write.insertInto(quoted, overwrite=True)


def _require_same_columns(has: StructType, wanted: StructType, table: str) -> None:
    existing = {field.name: field.dataType.simpleString() for field in has}
    ours = {field.name: field.dataType.simpleString() for field in wanted}
    wrong = [f"{name} is missing" for name in ours if name not in existing]
    wrong += [f"{name} is not among the scores" for name in existing if name not in ours]
    wrong += [
        f"{name} is {existing[name]}, the scores have {ours[name]}"
        for name in ours
        if existing.get(name, ours[name]) != ours[name]
    ]
    if wrong:
        raise InputError(
            f"{TABLE}: {table} has other columns than the scores ({'; '.join(wrong)}): alter it,"
            " or name another table"
        )


@contextmanager
def _by_partition(spark: SparkSession) -> Iterator[None]:
    """Let an overwrite replace only the partitions that it writes."""
    before = spark.conf.get(MODE)
    spark.conf.set(MODE, "dynamic")
    try:
        yield
    finally:
        spark.conf.set(MODE, before)  # type: ignore[arg-type]


@contextmanager
def _one_line(table: str) -> Iterator[None]:
    try:
        yield
    except AnalysisException as error:
        raise InputError(f"{TABLE}: {table}: {str(error).strip().splitlines()[0]}") from None
