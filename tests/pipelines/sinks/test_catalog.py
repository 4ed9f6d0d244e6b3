"""Copies of the scores, in Spark's catalog and PostgreSQL: a date is replaced whole or not."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import build
from din_model.errors import InputError
from pipelines.sinks.catalog import to_catalog
from pipelines.sinks.postgres import PostgresConfig, to_postgres

pytest_plugins = "tests.postgres"

DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)
COLUMNS = (
    "user_id long, item_id string, score double, rank int, history_length int,"
    " unknown_item boolean, explanations array<struct<kind string, item string, weight double>>,"
    " model string, model_version int, date string"
)
BROKEN = "if(rank > 5, raise_error('disk'), 'x')"


def plain(day: date, count: int, version: int = 1) -> list[dict[str, Any]]:
    """Scores of a day, with awkward texts and nothings among them."""
    why = [
        {"kind": "clicks", "item": 'a "quoted" \\ one', "weight": 0.1},
        {"kind": "clicks", "item": None, "weight": 1e-9},
    ]
    return [
        {
            "user_id": n, "item_id": f"{n}\t\n\\N,'\"ü\\.", "score": 0.1 * n, "rank": n + 1,
            "history_length": n % 3, "unknown_item": n % 2 == 0,
            "explanations": [None, [], why][n % 3],
            "model": "din", "model_version": version, "date": str(day),
        }
        for n in range(count)
    ]  # fmt: skip


def scores(spark: SparkSession, day: date, count: int, version: int = 1) -> DataFrame:
    """The same as a frame of two partitions."""
    rows = [tuple(row.values()) for row in plain(day, count, version)]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), COLUMNS)


def sorted_rows(frame: DataFrame) -> list[dict[str, Any]]:
    rows = [row.asDict(recursive=True) for row in frame.collect()]
    return sorted(rows, key=lambda row: row["user_id"])


def select(connection: psycopg.Connection, text: str) -> list[tuple[Any, ...]]:
    return connection.execute(text).fetchall()  # type: ignore[arg-type]


# PostgreSQL


@pytest.fixture
def url(
    postgres, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:  # fmt: skip
    """The address of an empty database, whose user and password are in the environment."""
    monkeypatch.setenv("PGUSER", postgres.user)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    # As spark.executorEnv.PGPASSWORD does, but in a session that runs already.
    monkeypatch.setitem(spark.sparkContext.environment, "PGPASSWORD", postgres.password)
    return postgres.create(f"test_{abs(hash(request.node.name))}")


@pytest.fixture
def reader(url: str) -> Iterator[psycopg.Connection]:
    """Somebody who reads; each statement sees what is committed by then."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def tables(reader: psycopg.Connection) -> list[str]:
    found = select(reader, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return sorted(name for (name,) in found)


def test_what_arrives_in_postgres_is_what_was_sent(spark, url, reader):
    rows = scores(spark, DAY, 25)
    to_postgres(rows, PostgresConfig(url), DAY, 25)
    names = [column for column in rows.columns if column != "date"]
    found = select(reader, f"SELECT {', '.join(names)}, date::text FROM scores ORDER BY user_id")
    assert [dict(zip([*names, "date"], row, strict=True)) for row in found] == plain(DAY, 25)
    types = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name='scores'"
    )
    assert dict(select(reader, types)) == {
        "user_id": "bigint", "item_id": "text", "score": "double precision", "rank": "integer",
        "history_length": "integer", "unknown_item": "boolean", "explanations": "jsonb",
        "model": "text", "model_version": "integer", "date": "date",
    }  # fmt: skip
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'scores_pkey'"
    assert select(reader, key) == [("PRIMARY KEY (date, user_id, item_id)",)]
    assert tables(reader) == ["scores"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.none() | st.floats(), st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.booleans(),
), min_size=1))  # fmt: skip
def test_any_value_survives_the_text_format(postgres, rows):
    from pipelines.sinks.postgres_copy import as_lines

    types = [pa.string(), pa.float64(), pa.int64(), pa.bool_()]
    arrays = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, ["a", "b", "c", "d"])
    with psycopg.connect(
        postgres.url(), user=postgres.user, password=postgres.password
    ) as connection:
        connection.execute(
            "CREATE TEMP TABLE t (n serial, a text, b float8, c int8, d bool, e text)"
        )
        with connection.cursor().copy("COPY t (a, b, c, d, e) FROM STDIN") as copy:
            copy.write(as_lines(batch, "tag"))
        found = select(connection, "SELECT a, b, c, d, e FROM t ORDER BY n")
        connection.rollback()
    assert repr(found) == repr([(*row, "tag") for row in rows])  # NaN differs from itself


def test_a_date_delivered_again_is_the_same_and_no_other_date_changes(spark, url, reader):
    config = PostgresConfig(url, table="public.scores")
    everything = "SELECT * FROM scores ORDER BY date, user_id"
    for day in (DAY, NEXT):
        to_postgres(scores(spark, day, 10), config, day, 10)
    first = select(reader, everything)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    assert select(reader, everything) == first
    assert len(first) == 20
    # Rows of another date in the frame are none of this delivery's.
    both = scores(spark, DAY, 7, version=2).union(scores(spark, NEXT, 3, version=2))
    to_postgres(both, config, DAY, 7)
    counts = "SELECT date::text, model_version, count(*) FROM scores GROUP BY 1, 2 ORDER BY 1"
    assert select(reader, counts) == [(str(DAY), 2, 7), (str(NEXT), 1, 10)]


def during(rows: DataFrame, act: Callable[[], None]) -> DataFrame:
    """The same rows; ``act`` runs on an executor before its partition's rows are copied."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        batches = list(batches)
        if batches and any(batch.num_rows for batch in batches):
            act()
        yield from batches

    return rows.mapInArrow(run, rows.schema)


def test_a_reader_sees_the_old_day_until_the_new_one_is_whole(spark, url, reader):
    config = PostgresConfig(url, connections=1)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    count, address = "SELECT model_version, count(*) FROM scores GROUP BY 1", reader.info.dsn

    def look() -> None:
        with psycopg.connect(address) as other:
            other.execute("CREATE TABLE IF NOT EXISTS seen (model_version int, rows int)")
            other.execute(f"INSERT INTO seen {count}")

    with psycopg.connect(url) as patient:
        patient.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert select(patient, count) == [(1, 10)]
        to_postgres(during(scores(spark, DAY, 8, version=2), look), config, DAY, 8)
        assert select(patient, count) == [(1, 10)]  # its transaction began before
    assert select(reader, count) == [(2, 8)]
    assert set(select(reader, "SELECT * FROM seen")) == {(1, 10)}


def test_rows_of_an_attempt_that_did_not_finish_well_are_left_out(spark, url, reader):
    address = reader.info.dsn

    def copy_twice() -> None:
        with psycopg.connect(address) as other:
            other.execute(
                "INSERT INTO scores_staging_20261123 (user_id, item_id, date, _attempt)"
                " VALUES (0, 'twice', '2026-11-23', '0-lost'), (1, 'twice', '2026-11-23', '1-lost')"
            )

    to_postgres(during(scores(spark, DAY, 10), copy_twice), PostgresConfig(url), DAY, 10)
    assert select(reader, "SELECT count(*), count(model) FROM scores") == [(10, 10)]
    assert tables(reader) == ["scores"]


def test_another_count_than_expected_leaves_the_table_as_it_was(spark, url, reader):
    config = PostgresConfig(url)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    with pytest.raises(InputError, match=r"9 rows of 2026-11-23 arrived, but there are 11: scores"):
        to_postgres(scores(spark, DAY, 9, version=2), config, DAY, 11)
    assert select(reader, "SELECT DISTINCT model_version, count(*) OVER () FROM scores") == [
        (1, 10)
    ]
    assert tables(reader) == ["scores"]


def test_a_job_that_fails_while_copying_leaves_the_table_as_it_was(spark, url, reader):
    config = PostgresConfig(url)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    broken = scores(spark, DAY, 9).withColumn("model", F.expr(BROKEN))
    with pytest.raises(Exception, match="disk"):
        to_postgres(broken, config, DAY, 9)
    assert select(reader, "SELECT count(*) FROM scores") == [(10,)]
    assert tables(reader) == ["scores"]


def test_what_a_killed_run_left_is_removed_by_the_next(spark, url, reader):
    reader.execute("CREATE TABLE scores_staging_20261123 (of_another_version int)")
    reader.execute("CREATE TABLE scores_staging_20261124 (of_another_date int)")
    to_postgres(scores(spark, DAY, 10), PostgresConfig(url), DAY, 10)
    assert tables(reader) == ["scores", "scores_staging_20261124"]


def test_a_second_run_of_the_same_date_ends_with_one_line_and_the_first_goes_on(spark, url, reader):
    address = reader.info.dsn

    def wait() -> None:
        with psycopg.connect(address, autocommit=True) as other:
            other.execute("NOTIFY copying")
            other.execute("SELECT pg_advisory_lock(7)")

    config = PostgresConfig(url, connections=1)
    reader.execute("LISTEN copying")
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(url) as gate:
            gate.execute("SELECT pg_advisory_xact_lock(7)")
            first = pool.submit(to_postgres, during(scores(spark, DAY, 10), wait), config, DAY, 10)
            next(reader.notifies(timeout=120))
            with pytest.raises(InputError, match="another run is writing 2026-11-23 to scores"):
                to_postgres(scores(spark, DAY, 9), config, DAY, 9)
            to_postgres(scores(spark, NEXT, 5), config, NEXT, 5)  # in the session's other core
        first.result()
    counts = "SELECT date::text, count(*) FROM scores GROUP BY 1 ORDER BY 1"
    assert select(reader, counts) == [(str(DAY), 10), (str(NEXT), 5)]


def test_a_table_that_lacks_columns_is_named_before_any_work(spark, url, reader):
    reader.execute("CREATE TABLE scores (user_id bigint, score float8, loaded timestamptz)")
    with pytest.raises(
        InputError, match=r"scores lacks the columns date, explanations, history_length"
    ):
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    with pytest.raises(InputError, match=r'schema "nowhere" does not exist.*run again'):
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url, "nowhere.scores"), DAY, 1)
    odd = scores(spark, DAY, 1).withColumn("score", F.lit(1).cast("decimal(5,2)"))
    with pytest.raises(InputError, match=r"score is decimal\(5,2\)"):
        to_postgres(odd, PostgresConfig(url), DAY, 1)


def test_columns_that_a_table_has_of_its_own_stay_at_their_defaults(spark, url, reader):
    to_postgres(scores(spark, DAY, 3), PostgresConfig(url), DAY, 3)
    reader.execute("ALTER TABLE scores ADD note text DEFAULT 'none'")
    to_postgres(scores(spark, NEXT, 3).drop("explanations"), PostgresConfig(url), NEXT, 3)
    found = select(reader, f"SELECT DISTINCT note, explanations FROM scores WHERE date = '{NEXT}'")
    assert found == [("none", None)]


def test_a_wrong_password_is_one_line_without_it(spark, postgres, url, reader, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(InputError, match=r"password authentication failed.*PGPASSWORD") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setitem(spark.sparkContext.environment, "PGPASSWORD", "hunter2")
    with pytest.raises(PythonException) as failed:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    said = re.search("InputError: (.*)", str(failed.value))
    assert said
    assert "password authentication failed" in said[1]
    assert "on the executors too" in said[1]
    assert "hunter2" not in str(failed.value)
    assert postgres.password not in str(failed.value)
    assert tables(reader) == []


def test_a_server_that_does_not_answer_is_one_line(spark, tmp_path: Path):
    for place in (f"postgresql:///scores?host={tmp_path}", "postgresql://127.0.0.1:1/scores"):
        with pytest.raises(
            InputError, match=r"look whether it runs, at score\.postgres\.url"
        ) as caught:
            to_postgres(scores(spark, DAY, 1), PostgresConfig(place), DAY, 1)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value) or "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", [
    "postgresql://me:hunter2@host/db", "postgresql://host/db?password=hunter2",
    "postgresql://host/db?sslpassword=hunter2", "postgresql://me:hunter2@[host/db",
])  # fmt: skip
def test_a_password_in_the_url_is_refused_and_not_repeated(spark, url, monkeypatch):
    with pytest.raises(InputError, match=r"score\.postgres\.url") as caught:
        build(PostgresConfig, {"url": url}, "my.yaml")
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("SCORES_AT", url)
    with pytest.raises(InputError, match=r"score\.postgres\.url") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig("${SCORES_AT}"), DAY, 1)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["host=here", "mysql://here/db", "postgresql://here/db?hunter2=1"])
def test_what_is_no_address_of_postgres_says_how_one_looks(spark, url):
    with pytest.raises(InputError, match="is not postgresql://host:port/database") as caught:
        to_postgres(scores(spark, DAY, 1), PostgresConfig(url), DAY, 1)
    assert "hunter2" not in str(caught.value)


def test_without_psycopg_a_person_is_told_what_to_install(spark, monkeypatch):
    monkeypatch.delitem(sys.modules, "pipelines.sinks.postgres_copy", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'din-pipeline\[postgres\]'"):
        to_postgres(scores(spark, DAY, 1), PostgresConfig("postgresql://host/db"), DAY, 1)


BAD = [
    "",
    "a b",
    "a;drop table b",
    'a"b',
    "a`b",
    "1a",
    "a.",
    ".a",
    "a..b",
    "ä",
    "a" * 41,
    "a\n",
    "a.b.c.d",
]


@pytest.mark.parametrize("table", BAD)
def test_a_name_that_is_none_is_refused(spark, table):
    with pytest.raises(InputError, match=r"score\.postgres\.table: .* is no table"):
        build(PostgresConfig, {"url": "postgresql://host/db", "table": table}, "my.yaml")
    with pytest.raises(InputError, match=r"score\.table: .* is no table"):
        to_catalog(spark.createDataFrame([], COLUMNS), table, DAY)


# The catalog


@pytest.fixture
def table(spark: SparkSession) -> Iterator[str]:
    """The name of a table that is not there yet."""
    spark.sql("CREATE DATABASE delivered")
    yield "delivered.scores"
    spark.sql("DROP DATABASE delivered CASCADE")


def test_a_table_of_the_catalog_is_made_and_one_date_of_it_replaced(spark, table):
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


def test_a_job_that_fails_while_writing_leaves_the_partition_as_it_was(spark, table):
    to_catalog(scores(spark, DAY, 10), table, DAY)
    broken = scores(spark, DAY, 9).withColumn("model", F.expr(BROKEN))
    with pytest.raises(Exception, match="disk"):
        to_catalog(broken, table, DAY)
    spark.catalog.refreshTable(table)
    assert sorted_rows(spark.table(table)) == plain(DAY, 10)


def test_a_table_of_other_columns_is_one_line_and_stays_as_it_is(spark, table):
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


def test_a_table_that_is_not_partitioned_by_date_alone_is_left_alone(spark, table):
    for by in ([], ["model", "date"]):
        scores(spark, NEXT, 4).write.partitionBy(by).saveAsTable(table)
        with pytest.raises(InputError, match=f"partitioned by {', '.join(by) or 'nothing'}, so no"):
            to_catalog(scores(spark, DAY, 3).select(spark.table(table).columns), table, DAY)
        assert spark.table(table).count() == 4
        spark.sql(f"DROP TABLE {table}")


def test_a_database_that_is_not_there_is_one_line(spark):
    with pytest.raises(InputError, match=r"score\.table: nowhere\.scores: .*nowhere") as caught:
        to_catalog(scores(spark, DAY, 3), "nowhere.scores", DAY)
    assert "\n" not in str(caught.value)
