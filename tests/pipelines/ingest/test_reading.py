"""Files are read as they are written: columns by name, whatever the tool, the day and the path."""

import gzip
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.ingest.raw_rows import Raw, columns_of
from pipelines.ingest.reading import fingerprint, read
from pipelines.ingest.sources import Source

DAY, NEXT = date(2026, 11, 20), date(2026, 11, 21)
NOON = datetime(2026, 11, 20, 12, 0, 0, 123456)
CSV = {"header": "true"}


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def put_table(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def rows(raws: list[Raw], *columns: str) -> list[tuple]:
    return sorted(tuple(row) for raw in raws for row in raw.rows.select(*columns).collect())


def source(folder: Path, **others: object) -> Source:
    kind = others.get("format", "csv")
    options = CSV if kind == "csv" else None
    return Source(**{"path": f"{folder}/{{date}}", "format": kind, "options": options} | others)


def test_columns_of_csv_are_found_by_the_header_of_each_file(spark, tmp_path):
    put(tmp_path / f"{DAY}/a.csv", "user,item,place\nu1,i1,7\n")
    put(tmp_path / f"{DAY}/b.csv", "place,item,user\n8,i2,u2\n")
    put(tmp_path / f"{NEXT}/a.csv", "item,user,more\ni3,u3,x\n")
    schema = "user string, item string, place int"
    for declared in (schema, None):
        raws = read(spark, source(tmp_path, schema=declared), "impressions", [DAY, NEXT])
        assert rows(raws, "user", "item") == [("u1", "i1"), ("u2", "i2"), ("u3", "i3")]
    places = read(spark, source(tmp_path, schema=schema), "impressions", [DAY])
    assert rows(places, "place", "_corrupt_record") == [(7, None), (8, None)]


def test_tabs_and_quotes_in_a_header_are_read_as_the_options_say(spark, tmp_path):
    put(tmp_path / f"{DAY}.tsv", "\ufeff'item'\t'user'\ni1\tu1\n")
    tabs = CSV | {"sep": "\t", "quote": "'"}
    path = f"{tmp_path}/{{date}}.tsv"
    log = source(tmp_path, path=path, options=tabs, schema="user string, item string")
    assert rows(read(spark, log, "impressions", [DAY]), "user", "item") == [("u1", "i1")]


def test_a_row_that_does_not_fit_its_header_is_malformed(spark, tmp_path):
    put(tmp_path / f"{DAY}/a.csv", "item,user,place\ni1,u1,far\ni2,u2\ni3,u3,7\n")
    log = source(tmp_path, schema="user string, item string, place int")
    found = read(spark, log, "impressions", [DAY])[0].rows.collect()
    assert [row["_corrupt_record"] for row in found] == ["i1,u1,far", "i2,u2", None]


@pytest.mark.parametrize("options", [CSV, CSV | {"inferSchema": "true"}])
def test_a_row_of_too_many_cells_is_malformed_without_a_schema_too(spark, tmp_path, options):
    put(tmp_path / f"{DAY}/hour=1/a.csv", "item,title,place\ni1,so, far,7\ni2,near,8\n")
    log = source(tmp_path, options=options)
    [raw] = read(spark, log, "impressions", [DAY])
    assert [(row["hour"], row["_corrupt_record"]) for row in raw.rows.collect()] == [
        (1, "i1,so, far,7"),
        (1, None),
    ]


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


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_text_file_without_lines_is_a_day_without_rows(spark, tmp_path, kind):
    put(tmp_path / f"{DAY}/a.{kind}", "")
    raws = read(spark, source(tmp_path, format=kind, schema="user string"), "impressions", [DAY])
    assert columns_of(raws) == []
    assert raws[0].rows.isEmpty()


def test_files_of_one_date_are_read_by_their_own_types_and_partitions(spark, tmp_path):
    put_table(tmp_path / f"{DAY}/country=NO/a.parquet", id=[1], clicked=[1])
    put_table(tmp_path / f"{DAY}/country=SE/a.parquet", id=[2.0], clicked=[True], more=["x"])
    raws = read(spark, source(tmp_path, format="parquet"), "impressions", [DAY])
    assert [dict(raw.rows.dtypes)["clicked"] for raw in raws] == ["bigint", "boolean"]
    found = [(int(r["id"]), r["country"]) for raw in raws for r in raw.rows.collect()]
    assert found == [(1, "NO"), (2, "SE")]


NAMES = ["a b#", "50%20", "v[2]", "{x}", "a*b\\", "country=New%20Zealand", "ü"]


def test_a_path_may_hold_any_character(spark, tmp_path):
    for name in NAMES:
        folder = tmp_path / name / str(DAY)
        put_table(folder / name / "a b.parquet", id=[1])
        log = source(tmp_path, path=f"{tmp_path}/{name}/{{date}}/{name}", format="parquet")
        (raw,) = read(spark, log, "impressions", [DAY])
        assert [row["id"] for row in raw.rows.collect()] == [1], name
        assert fingerprint(spark, [raw.rows])["files"] == 1


def test_files_of_other_types_may_have_any_name(spark, tmp_path):
    for i, name in enumerate(NAMES):
        put_table(tmp_path / f"{DAY}/{name}/{name}.parquet", **{"id": [i], f"c{i}": [0]})
    log = source(tmp_path, path=f"{tmp_path}/{DAY}/*", format="parquet")
    found = [row["id"] for raw in read(spark, log, "items", [DAY]) for row in raw.rows.collect()]
    assert sorted(found) == list(range(len(NAMES)))


def test_a_pattern_matches_its_files(spark, tmp_path):
    put_table(tmp_path / "east" / str(DAY) / "a.parquet", id=[1])
    put_table(tmp_path / "west" / str(DAY) / "a.parquet", id=[2.5])
    path = f"{tmp_path}/{{east,west}}/{{date}}"
    log = source(tmp_path, path=path, format="parquet")
    raws = read(spark, log, "impressions", [DAY])
    assert sorted(row["id"] for raw in raws for row in raw.rows.collect()) == [1, 2.5]


@pytest.mark.parametrize("path", ["/x/[y/{date}", "/x/{y/{date}", "nowhere://x/{date}", "a:b"])
def test_an_invalid_path_is_reported_in_one_line(spark, tmp_path, path):
    with pytest.raises(InputError, match="no such address or pattern") as error:
        read(spark, source(tmp_path, path=path), "impressions", [DAY])
    assert "\n" not in str(error.value)


ZIPPED = gzip.compress(b"user,item\n" + b"u1,i1\n" * 5000, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", ZIPPED, "a.csv: gzip under the name of a text file: needed is .gz"),
        ("a.csv.gz", b"user,item\nu1,i1\n", r"a.csv.gz: cannot be read \(.*gzip"),
        ("a.csv.gz", ZIPPED[:12], r"a.csv.gz: cannot be read \(.*end of"),
        ("a.csv", b"PAR1....PAR1", "a.csv: Parquet under the name of a text file"),
    ],
    ids=["gzip as text", "text as gzip", "cut off", "Parquet as text"],
)
def test_a_file_with_a_misleading_name_is_named(spark, tmp_path, name, content, message):
    put(tmp_path / f"{DAY}/{name}", "").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(spark, source(tmp_path, schema="user string"), "impressions", [DAY])


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


def test_a_folder_without_files_is_a_missing_day(spark, tmp_path):
    (tmp_path / str(DAY)).mkdir()
    with pytest.raises(InputError, match=f"impressions: {tmp_path}/{DAY} holds no file"):
        read(spark, source(tmp_path), "impressions", [DAY])


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
