"""Where a published table of scores also goes: a table of Spark's catalog, and PostgreSQL.

The store stays the answer; these are copies for those who ask by SQL. Only what is published is
delivered, and a delivery that failed is made good by running the job again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from din_model.config import Section, expand
from din_model.errors import InputError
from din_model.progress import stage

TABLE, POSTGRES = "score.table", "score.postgres"
"""Where they are configured, for messages."""

MODE = "spark.sql.sources.partitionOverwriteMode"

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""40 letters leave room for what a staging table's name adds; PostgreSQL cuts at 63."""


@dataclass(frozen=True)
class PostgresConfig(Section):
    """A table in PostgreSQL that published scores are copied to.

    User and password come from the environment, as libpq knows them (PGUSER, PGPASSWORD,
    PGPASSFILE, PGSERVICE); the password must be known on the executors too.

    Attributes:
        url: ``postgresql://host:port/database``; ``${VARIABLE}`` is filled in.
        table: the target, as ``table`` or ``schema.table``.
        connections: so many tasks at most write at once.
    """

    url: str
    table: str = "scores"
    connections: int = 8

    def __post_init__(self) -> None:
        _refuse_password(self.url)
        identifiers(self.table, f"{POSTGRES}.table", 2)


def identifiers(table: str, key: str, most: int) -> list[str]:
    """Split ``a.b.c`` into its names, at most ``most``, each one that needs no escaping.

    Raises:
        InputError: anything else; ``key`` is where it stands in the configuration.
    """
    names = table.split(".")
    if len(names) > most or not all(IDENTIFIER.fullmatch(name) for name in names):
        raise InputError(
            f"{key}: {table!r} is no table: write one to {most} names joined by dots, each of at"
            " most 40 letters, digits and underscores, and no digit first"
        )
    return names


def to_catalog(rows: DataFrame, table: str, day: date) -> None:
    """Replace the partition of ``day`` in a table of the catalog; other dates stay as they are.

    The table is created where it is missing, as Parquet partitioned by date; one that is there may
    be of any format that Spark can overwrite by partition. The old rows go when the new ones are
    written, so a job that fails before leaves them. In a Parquet table a reader may meet the moment
    of exchange; formats with transactions have none.

    Args:
        rows: at least one, with ``date`` as string.
        table: one to three names, ``catalog.database.table``.

    Raises:
        InputError: a name that is none, a table of other columns or other partitions, or one that
            the catalog does not let us make or write.
    """
    quoted = ".".join(f"`{name}`" for name in identifiers(table, TABLE, 3))
    spark = rows.sparkSession
    with stage(f"{day} to {table}"), _one_line(table):
        empty = rows.limit(0).write.format("parquet").partitionBy("date")
        empty.mode("ignore").saveAsTable(quoted)
        _require_same_columns(spark.table(quoted).schema, rows.schema, table)
        partitions = [c.name for c in spark.catalog.listColumns(quoted) if c.isPartition]
        if partitions != ["date"]:
            raise InputError(
                f"{TABLE}: {table} is partitioned by {', '.join(partitions) or 'nothing'}, so no"
                " date can be replaced in it: it must be by date alone; name another table"
            )
        of_day = rows.where(F.col("date") == str(day)).select(spark.table(quoted).columns)
        with _by_partition(spark):
            of_day.write.insertInto(quoted, overwrite=True)


def to_postgres(rows: DataFrame, config: PostgresConfig, day: date, expected: int) -> None:
    """Replace the rows of ``day`` in a table of PostgreSQL; other dates stay as they are.

    The table is created where it is missing, with the primary key (date, user, item); lists are
    jsonb. Columns of its own that one that is there has are left at their defaults.

    Args:
        rows: user and item first, with ``date`` as string; best read from the store, since few
            tasks write.
        expected: how many rows of ``day`` there must be.

    Raises:
        InputError: another count, a table that lacks columns, another run that is writing the same
            date, a server that cannot be reached or that refuses. The table is as it was.
    """
    names = identifiers(config.table, f"{POSTGRES}.table", 2)
    url = expand(config.url)
    _refuse_password(url)
    try:
        from pipelines.postgres import replace_day
    except ImportError:
        raise InputError(
            f"{POSTGRES} needs psycopg, here and on the executors: pip install"
            " 'din-pipeline[postgres]'"
        ) from None
    of_day = rows.where(F.col("date") == str(day)).coalesce(config.connections)
    with stage(f"{day} to PostgreSQL") as report:
        report.rows = replace_day(of_day, url, names, day, expected)


def _refuse_password(url: str) -> None:
    """One in the configuration would be logged with the run, one in a url sent with the tasks."""
    try:
        parts = urlsplit(url)
        found = parts.password is not None or "password" in parts.query
    except ValueError:
        raise InputError(f"{POSTGRES}.url is not postgresql://host:port/database") from None
    if found:
        raise InputError(f"{POSTGRES}.url holds a password: take it out, and set PGPASSWORD")


def _require_same_columns(has: StructType, wanted: StructType, table: str) -> None:
    there = {field.name: field.dataType.simpleString() for field in has}
    ours = {field.name: field.dataType.simpleString() for field in wanted}
    wrong = [f"{name} is missing" for name in ours if name not in there]
    wrong += [f"{name} is not among the scores" for name in there if name not in ours]
    wrong += [
        f"{name} is {there[name]}, the scores have {ours[name]}"
        for name in ours
        if there.get(name, ours[name]) != ours[name]
    ]
    if wrong:
        raise InputError(
            f"{TABLE}: {table} has other columns than the scores ({'; '.join(wrong)}): alter it,"
            " or name another table"
        )


@contextmanager
def _by_partition(spark: SparkSession) -> Iterator[None]:
    """Let an overwrite replace the partitions of its rows alone, once they are written."""
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
