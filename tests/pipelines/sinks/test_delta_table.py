"""One date in a Delta table is replaced completely or not at all."""

import os
from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.ingest.delta_tables import table_rows
from pipelines.sinks.delta_table import to_delta
from tests.pipelines.sinks.scores import BROKEN, DAY, NEXT, plain, scores, sorted_rows
from tests.s3 import s3_server


def of_day(path: str, day: date) -> list[dict[str, Any]]:
    """The rows of a date, as a reader without Spark finds them."""
    options = {"AWS_ALLOW_HTTP": "true"} if "://" in path else {}
    table = QueryBuilder().register("t", DeltaTable(path, storage_options=options))
    query = f"select * from t where cast(date as string) = '{day}' order by user_id"
    rows = pa.table(table.execute(query).read_all()).to_pylist()
    return [{name: row[name] for name in plain(day, 1)[0]} | {"date": str(day)} for row in rows]


@pytest.fixture(params=["disk", "s3"])
def path(request, spark, tmp_path, monkeypatch):
    if request.param == "disk":
        yield f"{tmp_path}/delivered"
        return
    with s3_server(monkeypatch) as bucket:
        # As spark.executorEnv does, but in a session that runs already.
        for name in [each for each in os.environ if each.startswith("AWS_")]:
            monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
        yield f"{bucket}/delivered"


def test_a_table_is_created_and_one_date_of_it_replaced(spark, path):
    for day in (DAY, NEXT):
        to_delta(scores(spark, day, 10), path, day, 10)
    again = scores(spark, DAY, 6, version=2).union(scores(spark, NEXT, 3, version=2))
    for _ in range(2):
        to_delta(again, path, DAY, 6)
        assert of_day(path, DAY) == plain(DAY, 6, version=2)
        assert of_day(path, NEXT) == plain(NEXT, 10)


def test_a_job_that_fails_leaves_the_date_and_no_file(spark, tmp_path):
    path = f"{tmp_path}/delivered"
    to_delta(scores(spark, DAY, 10), path, DAY, 10)
    files = sorted(tmp_path.rglob("*.parquet"))
    broken = scores(spark, DAY, 9).withColumn("model", F.expr(BROKEN))
    with pytest.raises(Exception, match="disk"):
        to_delta(broken, path, DAY, 9)
    with pytest.raises(InputError, match=r"score\.delta: 9 rows of .* arrived, but there are 10"):
        to_delta(scores(spark, DAY, 9), path, DAY, 10)
    with pytest.raises(InputError, match=r"column rank is .*int.*, but .*long.* now"):
        to_delta(scores(spark, DAY, 9).withColumn("rank", F.lit(1).cast("long")), path, DAY, 9)
    assert sorted(tmp_path.rglob("*.parquet")) == files
    assert of_day(path, DAY) == plain(DAY, 10)


def test_a_table_written_by_others_keeps_its_columns_and_gets_new_ones(spark, tmp_path):
    path = f"{tmp_path}/theirs"
    theirs = {"user_id": [7, 8], "note": ["a", "b"], "date": [str(DAY), "2026-01-01"]}
    write_deltalake(path, pl.DataFrame(theirs), partition_by=["date"])
    to_delta(scores(spark, DAY, 4), path, DAY, 4)
    assert of_day(path, DAY) == plain(DAY, 4)
    read = table_rows(spark, path, {})
    assert [row["note"] for row in read.where("date = '2026-01-01'").collect()] == ["b"]
    assert sorted_rows(read.where(f"date = '{DAY}'").drop("note"))[0]["rank"] == 1


def test_a_table_not_partitioned_by_date_alone_is_refused(spark, tmp_path):
    for number, by in enumerate((None, ["user_id", "date"])):
        path = f"{tmp_path}/{number}"
        theirs = pl.DataFrame({"user_id": [1], "date": ["x"], "a": [1]})
        write_deltalake(path, theirs, partition_by=by)
        with pytest.raises(InputError, match=f"partitioned by {', '.join(by or ['nothing'])}, so"):
            to_delta(scores(spark, DAY, 3), path, DAY, 3)
        assert DeltaTable(path).version() == 0


def test_a_folder_that_cannot_hold_a_table_is_refused_with_its_key(spark, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"score\.delta: .* is a file: name a folder"):
        to_delta(scores(spark, DAY, 3), f"{tmp_path}/file", DAY, 3)
