"""Parquet is read by the types that Spark has for its columns."""

from datetime import datetime, time

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.ingest.raw_rows import columns_of
from pipelines.ingest.reading import read
from tests.pipelines.ingest.files import DAY, NEXT, put, put_table, rows, source

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456)


def test_parquet_of_nanoseconds_is_read_in_microseconds(spark, tmp_path):
    times = pd.Series([NOON, None, datetime(1969, 12, 31, 23, 59, 59, 999999)])
    frame = pd.DataFrame({"at": times.astype("datetime64[ns]"), "id": [1, 2, 3]})
    frame["utc"] = frame["at"].dt.tz_localize("UTC")
    (tmp_path / str(DAY)).mkdir()
    frame.to_parquet(tmp_path / f"{DAY}/a.parquet")
    raws = read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
    types = dict(raws[0].rows.dtypes)
    assert (types["at"], types["utc"]) == ("timestamp_ntz", "timestamp")
    utc, at = F.unix_micros("utc"), F.unix_micros(F.col("at").cast("timestamp"))
    found = raws[0].rows.orderBy("id").select(utc, at).collect()
    noon = 1795176000123456
    assert list(map(tuple, found)) == [(noon, noon), (None, None), (-1, -1)]


def test_an_unreadable_column_that_is_not_used_is_ignored(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/a.parquet", id=[1], opens=pa.array([time(8)]), **{"geo.x": ["N"]})
    raws = read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
    assert rows(raws, "id", "`geo.x`") == [(1, "N")]


def test_a_column_without_values_has_no_type(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/a.parquet", id=[1], name=pa.nulls(1), tags=[[]])
    raws = read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
    assert dict(raws[0].rows.dtypes) == {"id": "bigint", "name": "void", "tags": "void"}
    assert rows(raws, "id", "name", "tags") == [(1, None, None)]


def test_a_file_without_rows_adds_nothing(spark, tmp_path):
    (tmp_path / str(DAY)).mkdir()
    (tmp_path / str(NEXT)).mkdir()
    for day in (DAY, NEXT):
        pd.DataFrame(columns=["user", "at"]).to_parquet(tmp_path / f"{day}/empty.parquet")
    put_table(tmp_path / f"{NEXT}/a.parquet", user=["u1"])
    log = source(tmp_path, format="parquet")
    assert columns_of(read(spark, log, "impressions", [DAY])) == []
    assert rows(read(spark, log, "impressions", [DAY, NEXT]), "user") == [("u1",)]


def test_a_file_that_is_not_parquet_is_named(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/a.parquet", id=[1])
    put(tmp_path / f"{DAY}/b.parquet", "user,item\nu1,i1\n")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be read as Parquet"):
        read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])


@pytest.mark.parametrize("damage", ["\ufffd//", "AAAAA"])
def test_a_footer_that_is_damaged_is_named(spark, tmp_path, damage):
    file = tmp_path / f"{DAY}/a.parquet"
    put_table(file, id=[1])
    file.write_bytes(file.read_bytes().replace(b"/////", damage.encode()))  # of ARROW:schema
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet \(ARROW:schema"):
        read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
