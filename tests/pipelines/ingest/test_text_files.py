"""Text is read by the header of each file, and what is no text is named."""

import gzip

import pytest

from din_model.errors import InputError
from pipelines.ingest.raw_rows import columns_of
from pipelines.ingest.reading import read
from tests.pipelines.ingest.files import CSV, DAY, NEXT, put, rows, source


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


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_text_file_without_lines_is_a_day_without_rows(spark, tmp_path, kind):
    put(tmp_path / f"{DAY}/a.{kind}", "")
    raws = read(spark, source(tmp_path, format=kind, schema="user string"), "impressions", [DAY])
    assert columns_of(raws) == []
    assert raws[0].rows.isEmpty()


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
