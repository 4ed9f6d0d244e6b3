"""One date in a table of PostgreSQL is replaced completely or not at all."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.sinks.postgres import PostgresConfig, to_postgres
from tests.pipelines.sinks.scores import BROKEN, DAY, NEXT, scores, select, tables

pytest_plugins = "tests.postgres"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.none() | st.floats(), st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.booleans(),
), min_size=1))  # fmt: skip
def test_any_value_is_read_back_from_the_text_format(postgres, rows):
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


def test_delivering_a_date_again_replaces_that_date_only(spark, url, reader):
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


def test_a_reader_sees_the_old_rows_until_all_new_rows_are_copied(spark, url, reader):
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


def test_rows_of_a_failed_task_attempt_are_not_delivered(spark, url, reader):
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


def test_an_unexpected_row_count_leaves_the_table_unchanged(spark, url, reader):
    config = PostgresConfig(url)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    with pytest.raises(InputError, match=r"9 rows of 2026-11-23 arrived, but there are 11: scores"):
        to_postgres(scores(spark, DAY, 9, version=2), config, DAY, 11)
    assert select(reader, "SELECT DISTINCT model_version, count(*) OVER () FROM scores") == [
        (1, 10)
    ]
    assert tables(reader) == ["scores"]


def test_a_job_that_fails_while_copying_leaves_the_table_unchanged(spark, url, reader):
    config = PostgresConfig(url)
    to_postgres(scores(spark, DAY, 10), config, DAY, 10)
    broken = scores(spark, DAY, 9).withColumn("model", F.expr(BROKEN))
    with pytest.raises(Exception, match="disk"):
        to_postgres(broken, config, DAY, 9)
    assert select(reader, "SELECT count(*) FROM scores") == [(10,)]
    assert tables(reader) == ["scores"]


def test_the_next_run_removes_the_staging_table_of_a_killed_run(spark, url, reader):
    reader.execute("CREATE TABLE scores_staging_20261123 (of_another_version int)")
    reader.execute("CREATE TABLE scores_staging_20261124 (of_another_date int)")
    to_postgres(scores(spark, DAY, 10), PostgresConfig(url), DAY, 10)
    assert tables(reader) == ["scores", "scores_staging_20261124"]


def test_a_second_run_of_the_same_date_is_refused_while_the_first_runs(spark, url, reader):
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


def test_a_table_that_lacks_columns_is_refused_before_any_copy(spark, url, reader):
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


def test_other_columns_of_the_table_get_their_defaults(spark, url, reader):
    to_postgres(scores(spark, DAY, 3), PostgresConfig(url), DAY, 3)
    reader.execute("ALTER TABLE scores ADD note text DEFAULT 'none'")
    to_postgres(scores(spark, NEXT, 3).drop("explanations"), PostgresConfig(url), NEXT, 3)
    found = select(reader, f"SELECT DISTINCT note, explanations FROM scores WHERE date = '{NEXT}'")
    assert found == [("none", None)]
