"""A source's query sees all rows of a date that could be read."""

from decimal import Decimal

from pipelines.ingest.reading import read
from tests.pipelines.ingest.files import DAY, put, put_table, rows, source


def test_a_query_sees_all_files_of_a_date_at_once(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/a.parquet", id=[2**53 + 1, 2], name=["x", "y"], list=[[1], [2]])
    put_table(tmp_path / f"{DAY}/b.parquet", id=[2.0, 7.5], name=[5, 6], list=["q", "r"])
    count = "select id, count(*) n, min(name) name from raw group by id"
    log = source(tmp_path, format="parquet", query=count)
    assert rows(read(spark, log, "items", [DAY]), "id", "n", "name") == [
        (2, 2, "5"), (Decimal("7.5"), 1, "6"), (2**53 + 1, 1, "x")
    ]  # fmt: skip
    log = source(tmp_path, format="parquet", query="select * from raw")
    assert rows(read(spark, log, "items", [DAY]), "list") == [("[1]",), ("[2]",), ("q",), ("r",)]


def test_a_broken_line_is_no_row_of_a_query_that_selects_other_columns(spark, tmp_path):
    put(tmp_path / f"{DAY}/a.csv", "user,place\nu1,7\nu2,far\nu3\n")
    log = source(tmp_path, schema="user string, place int", query="select user from raw")
    (raw,) = read(spark, log, "impressions", [DAY])
    found = [tuple(row) for row in raw.rows.select("user").orderBy("user").collect()]
    assert found == [(None,), (None,), ("u1",)]
