"""Delta tables that other tools wrote are read as their readers would read them."""

import json

import polars as pl
import pytest
from deltalake import DeltaTable

from din_model.errors import InputError
from pipelines.ingest.reading import read
from pipelines.ingest.sources import Source
from tests.pipelines.ingest.files import DAY, rows


@pytest.fixture
def clicks(tmp_path):
    """Two versions; of the first, one row is replaced."""
    path = f"{tmp_path}/clicks"
    table = pl.DataFrame({"user": ["u1", "u2"], "item": [1, 2], "day": ["d1", "d2"]})
    table.write_delta(path, delta_write_options={"partition_by": ["day"]})
    DeltaTable(path).delete("day = 'd2'")
    table = pl.DataFrame({"user": ["u3"], "item": [3], "day": ["d2"]})
    table.write_delta(path, mode="append")
    return path


def test_the_rows_are_those_of_the_newest_version(spark, clicks):
    raws = read(spark, Source(path=clicks, format="delta"), "impressions", [DAY])
    assert rows(raws, "user", "item", "day") == [("u1", 1, "d1"), ("u3", 3, "d2")]


def test_a_version_of_the_past_can_be_read(spark, clicks):
    source = Source(path=clicks, format="delta", options={"versionAsOf": "0"})
    assert rows(read(spark, source, "impressions", [DAY]), "user") == [("u1",), ("u2",)]


def test_a_table_without_files_has_its_columns(spark, clicks):
    DeltaTable(clicks).delete()
    (raw,) = read(spark, Source(path=clicks, format="delta"), "impressions", [DAY])
    assert (raw.rows.columns, raw.rows.count()) == (["user", "item", "day"], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"versionAsOf": "99"}, "not a Delta table that can be read"),
        ({"versionAsOf": "x"}, "not a Delta table that can be read"),
        ({"mergeSchema": "true"}, "a Delta table has no option 'mergeschema': write versionAsOf"),
    ],
)
def test_a_wrong_option_is_one_line(spark, clicks, options, message):
    with pytest.raises(InputError, match=message):
        read(spark, Source(path=clicks, format="delta", options=options), "impressions", [DAY])


def test_a_folder_that_is_no_table_is_named(spark, tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: not a Delta table"):
        read(spark, Source(path=str(tmp_path), format="delta"), "impressions", [DAY])


MAPPED = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "column_1"}
SCHEMA = {
    "type": "struct",
    "fields": [{"name": "user", "type": "string", "nullable": True, "metadata": MAPPED}],
}
ADD = {
    "path": "a.parquet", "partitionValues": {}, "size": 9, "modificationTime": 0,
    "dataChange": True, "stats": '{"numRecords": 9}',
}  # fmt: skip
# The example of Delta's specification: six rows of the file are deleted.
VECTOR = {
    "storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
    "sizeInBytes": 40, "cardinality": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "configuration", "add", "message"),
    [
        ({"minReaderVersion": 2}, {"delta.columnMapping.mode": "name"}, {}, "has columnMapping"),
        (
            {"minReaderVersion": 3, "readerFeatures": ["deletionVectors"],
             "writerFeatures": ["deletionVectors"]},
            {}, {"deletionVector": VECTOR}, "has deletionVectors",
        ),
    ],
)  # fmt: skip
def test_a_table_that_its_files_do_not_show_is_refused(
    spark, tmp_path, protocol, configuration, add, message
):
    metadata = {
        "id": "x", "format": {"provider": "parquet", "options": {}}, "partitionColumns": [],
        "schemaString": json.dumps(SCHEMA), "configuration": configuration, "createdTime": 0,
    }  # fmt: skip
    protocol = {"minWriterVersion": 7 if "writerFeatures" in protocol else 5} | protocol
    log = tmp_path / "_delta_log/00000000000000000000.json"
    log.parent.mkdir()
    actions = [{"protocol": protocol}, {"metaData": metadata}, {"add": ADD | add}]
    log.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(InputError, match=message):
        read(spark, Source(path=str(tmp_path), format="delta"), "impressions", [DAY])
