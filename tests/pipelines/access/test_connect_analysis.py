"""A Connect server says the same of formats, queries and Parquet as Spark in this process."""

from datetime import date, time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from din_model.errors import InputError
from pipelines.access.choice import is_connect, session_analysis, session_files
from pipelines.access.fsspec_files import FsspecFiles
from pipelines.ingest.reading import read
from pipelines.ingest.source_checks import check_source
from pipelines.ingest.sources import Source
from pipelines.session import configure
from pipelines.training.launch import LaunchConfig, require_launcher
from tests.jobs.connect_server import connect_server

pytest.importorskip("grpc", reason="the extra connect is not installed")
sessions = pytest.importorskip("pyspark.sql.connect.session")

DAYS = [date(2026, 11, 20), date(2026, 11, 21)]


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """A session of a server; ``pyspark.sql.functions`` are those of the classic one here."""
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        session = sessions.SparkSession.builder.remote(address).create()
        configure(session, "spark.sql.legacy.parquet.nanosAsLong", "true")
        yield session
        session.stop()


def test_a_session_of_connect_uses_no_jvm(spark, remote):
    assert (is_connect(spark), is_connect(remote)) == (False, True)
    assert isinstance(session_files(remote), FsspecFiles)


@pytest.mark.parametrize(
    "query",
    [
        "WITH r AS (SELECT DISTINCT user FROM raw) SELECT * FROM r JOIN raw USING (user) LIMIT 3",
        "SELECT user, i FROM raw LATERAL VIEW posexplode(items) t AS n, i UNION ALL TABLE raw",
        "FROM raw SELECT /*+ BROADCAST(raw) */ user, count(*) GROUP BY ALL HAVING count(*) > 1",
        "SELECT * FROM raw PIVOT (sum(n) FOR kind IN ('a', 'b')) ORDER BY 1 -- '; DROP TABLE x'",
        "SELECT *, rank() OVER w AS place FROM raw WINDOW w AS (PARTITION BY user ORDER BY at)",
        "SELECT 'INSERT INTO x; TRANSFORM(a) USING ''sh''' AS item FROM raw TABLESAMPLE (5 ROWS)",
        "SELECT * FROM raw, LATERAL (SELECT raw.user AS u) EXCEPT SELECT * FROM VALUES (1, 2)",
        "SELECT transform(items, x -> x + 1) AS items FROM raw WHERE user IN (SELECT 1) OFFSET 2",
    ],
)
def test_any_single_select_is_accepted(remote, query):
    check_source(remote, Source(path="x", query=query), "impressions")


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE t AS SELECT 1 AS a",
        "INSERT OVERWRITE DIRECTORY '{folder}' USING parquet SELECT 1 AS a",
        "SET spark.sql.ansi.enabled=true",
        "EXPLAIN SELECT 1",
        "WITH r AS (SELECT TRANSFORM(user) USING 'touch {folder}/x' FROM raw) SELECT * FROM r",
        "SELECT (SELECT max(a) FROM (SELECT TRANSFORM(user) USING 'cat' AS a FROM raw)) FROM raw",
        "SELECT " + "0, " * 99 + "1 + length(reflect('java.lang.System', 'lineSeparator')) AS n",
        "SELECT '\\n== Analyzed Logical Plan ==' FROM (FROM raw MAP user USING 'cat' AS user)",
        "SELECT * FROM raw WHERE JAVA_METHOD('java.lang.System', 'gc') > ''",
        "SELECT IDENTIFIER('reflect')('java.lang.System', 'lineSeparator')",
    ],
)
def test_other_statements_are_refused_and_not_run(remote, tmp_path, query):
    ansi = remote.conf.get("spark.sql.ansi.enabled")
    with pytest.raises(InputError, match="is no part of a SELECT, and nothing is run"):
        check_source(remote, Source(path="x", query=query.format(folder=tmp_path)), "impressions")
    assert list(tmp_path.iterdir()) == []
    assert remote.conf.get("spark.sql.ansi.enabled") == ansi
    assert not remote.catalog.tableExists("t")


def test_two_statements_are_one_line_of_the_parser(remote):
    with pytest.raises(InputError, match=r"sources\.users: \[PARSE_SYNTAX_ERROR\]") as error:
        check_source(remote, Source(path="x", query="SELECT 1; DROP TABLE t"), "users")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "known"), [("jsonl", False), ("x.y.Z", False), ("CSV", True)])
def test_formats_are_known_by_the_server(remote, name, known):
    assert session_analysis(remote).knows_format(name) == known


def test_columns_of_parquet_have_the_types_of_a_classic_session(spark, remote, tmp_path):
    day = tmp_path / "country=NO"
    day.mkdir()
    columns = {
        "id": [1],
        "at": pa.array([0], pa.timestamp("us")),
        "ns": pa.array([0], pa.timestamp("ns", "UTC")),
        "kind": pa.array(["a"]).dictionary_encode(),
        "geo.x": [{"a": [1.0]}],
    }
    unreadable = {"opens": pa.array([time(8)]), "half": pa.array([1.0], pa.float16())}
    for more in ({}, unreadable):
        pq.write_table(pa.table(columns | more), day / "a.parquet")
        uri = (day / "a.parquet").as_uri()
        ours, classic = (
            {f.name: f.dataType for f in session_analysis(s).parquet_columns(uri)}
            for s in (remote, spark)
        )
        assert {name: ours[name] for name in columns} == {name: classic[name] for name in columns}
        assert "half" not in ours


def test_a_query_of_a_date_keeps_its_rows_after_the_next_date_is_read(remote, tmp_path):
    for id_, day in enumerate(DAYS):
        pq.write_table(pa.table({"id": [id_]}), tmp_path / f"{day}.parquet")
    log = Source(path=f"{tmp_path}/{{date}}.parquet", query="SELECT id + 1 AS id FROM raw")
    raws = read(remote, log, "impressions", DAYS)
    assert [raw.rows.collect()[0]["id"] for raw in raws] == [1, 2]


def test_a_query_reads_files_that_lack_a_column(remote, tmp_path):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [2], "more": [3]}), tmp_path / "b.parquet")
    log = Source(path=str(tmp_path), query="SELECT id FROM raw")
    [raw] = read(remote, log, "items", DAYS)
    assert sorted(row["id"] for row in raw.rows.collect()) == [1, 2]


def test_ranks_on_executors_are_refused(spark, remote):
    config = LaunchConfig(launcher="spark")
    require_launcher(spark, config)
    with pytest.raises(InputError, match=r"launch\.launcher: spark needs the JVM"):
        require_launcher(remote, config)
    require_launcher(remote, LaunchConfig(launcher="torchrun"))
