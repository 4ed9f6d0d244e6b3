"""Formats, options and queries are checked before anything is read or run."""

import pytest

from din_model.config import build
from din_model.errors import InputError
from pipelines.ingest.reading import read
from pipelines.ingest.source_checks import check_source, check_sources
from pipelines.ingest.sources import Source, SourcesConfig

TRANSFORM = "SELECT TRANSFORM(user) USING 'touch {folder}/x' AS user FROM raw"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT *, rank() OVER w AS place FROM raw WINDOW w AS (PARTITION BY user ORDER BY at)",
        "WITH r AS (SELECT DISTINCT user FROM raw) SELECT * FROM r JOIN raw USING (user) LIMIT 3",
        "SELECT user, explode(items) AS item FROM raw WHERE user IN (SELECT max(user) FROM raw)",
        "SELECT user, i FROM raw LATERAL VIEW posexplode(items) t AS n, i UNION ALL TABLE raw",
        "FROM raw SELECT /*+ BROADCAST(raw) */ user, count(*) GROUP BY ALL HAVING count(*) > 1",
        "SELECT * FROM raw PIVOT (sum(n) FOR kind IN ('a', 'b')) ORDER BY 1 -- '; DROP TABLE x'",
        "SELECT * FROM raw WHERE day BETWEEN DATE '{date}' - 7 AND DATE '{date}'",
        "SELECT 'INSERT INTO x; TRANSFORM(a) USING ''sh''' AS item FROM raw",
        "SELECT * FROM raw, LATERAL (SELECT raw.user AS u) EXCEPT SELECT * FROM VALUES (1, 2)",
    ],
)
def test_any_single_select_is_accepted(spark, query):
    check_source(spark, Source(path="x", query=query), "impressions")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("INSERT OVERWRITE DIRECTORY '{folder}' USING parquet SELECT * FROM raw", "InsertIntoDir"),
        ("FROM raw INSERT INTO a SELECT 1 INSERT INTO b SELECT 2", "InsertIntoStatement"),
        ("WITH r AS (SELECT 1) INSERT INTO t SELECT * FROM r", "InsertIntoStatement"),
        ("INSERT INTO IDENTIFIER('t') SELECT 1", "(PlanWithUnresolvedIdentifier|InsertInto)"),
        ("CREATE TABLE t AS SELECT * FROM raw", "CreateTableAsSelect"),
        ("CREATE TEMPORARY VIEW raw2 AS SELECT 1", "CreateViewCommand"),
        ("DROP TABLE IF EXISTS t", "DropTable"),
        ("SET spark.sql.ansi.enabled=true", "SetCommand"),
        ("ADD JAR '/x.jar'", "AddJarsCommand"),
        ("EXPLAIN SELECT 1", "ExplainCommand"),
        (TRANSFORM, "ScriptTransformation"),
        ("FROM raw MAP user USING 'cat' AS user", "ScriptTransformation"),
        (f"WITH r AS ({TRANSFORM}) SELECT * FROM r", "ScriptTransformation"),
        (f"SELECT (SELECT max(user) FROM ({TRANSFORM})) FROM raw", "ScriptTransformation"),
        ("SELECT 1 + length(reflect('java.lang.System', 'lineSeparator')) AS n", "reflect"),
        ("SELECT * FROM raw WHERE JAVA_METHOD('java.lang.System', 'gc') > ''", "java_method"),
        ("SELECT IDENTIFIER('reflect')('java.lang.System', 'lineSeparator')", "IDENTIFIER"),
    ],
)
def test_statements_other_than_select_are_refused_and_not_run(spark, tmp_path, query, found):
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "log.csv").write_text("user\nu1\n")
    log = Source(path=f"{tmp_path}/log.csv", format="csv", query=query.format(folder=tmp_path))
    message = rf"sources\.impressions\.query: {found}\w* is no part of a SELECT"
    with pytest.raises(InputError, match=message):
        read(spark, log, "impressions", [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "mine"]


def test_two_statements_are_one_line_of_the_parser(spark):
    with pytest.raises(InputError, match=r"sources\.users: \[PARSE_SYNTAX_ERROR\]") as error:
        check_source(spark, Source(path="x", query="SELECT * FROM raw; DROP TABLE t"), "users")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "query", ["SELECT *, 1 AS user FROM raw", "SELECT user, 1 AS USER FROM raw"]
)
def test_a_query_that_names_a_column_twice_is_refused(spark, tmp_path, query):
    (tmp_path / "log.csv").write_text("user\nu1\n")
    log = Source(path=f"{tmp_path}/log.csv", format="csv", options={"header": "true"}, query=query)
    with pytest.raises(InputError, match=r"impressions\.query: two columns are called 'user'"):
        read(spark, log, "impressions", [None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "jsonl"}, r"impressions\.format: Spark has no format 'jsonl': write json"),
        ({"format": "tsv"}, r"no format 'tsv': write csv with options: {sep: "),
        ({"format": "x.y.Z"}, "no format 'x.y.Z': write parquet, csv, json"),
        (
            {"format": "csv", "options": {"heeder": "true"}},
            "no option 'heeder'; did you mean",
        ),
        ({"format": "csv", "options": {"mode": "DROPMALFORMED"}}, "mode DROPMALFORMED loses"),
    ],
)
def test_a_format_or_option_that_spark_does_not_know_is_named(spark, changes, message):
    with pytest.raises(InputError, match=message):
        check_source(spark, Source(**{"path": "x"} | changes), "impressions")


def test_options_that_spark_knows_are_accepted_in_any_case(spark):
    known = {"HEADER": "true", "pathGlobFilter": "*.csv", "fs.s3a.endpoint": "x", "sep": "|"}
    check_source(spark, Source(path="x", format="csv", options=known), "impressions")


def test_every_source_is_checked_before_the_first_is_read(spark):
    sources = build(
        SourcesConfig,
        {
            "impressions": {"path": "nowhere"},
            "behaviours": [{"path": "nowhere"}, {"path": "nowhere", "format": "jsonl"}],
        },
        "sources",
    )
    with pytest.raises(InputError, match=r"sources\.behaviours\.1\.format"):
        check_sources(spark, sources)
