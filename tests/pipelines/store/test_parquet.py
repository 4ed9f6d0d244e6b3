"""Partitions become files, and only those that a finished task reported are kept."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from pipelines.store import parquet


def test_each_partition_with_rows_becomes_a_file(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.range(10).selectExpr("id as `a.b`", "array(id) as list").repartition(3, "`a.b`")
    files = parquet.write(rows, str(tmp_path / "run"))
    assert sorted(f.path for f in files) == sorted(p.name for p in (tmp_path / "run").iterdir())
    for file in files:
        path = tmp_path / "run" / file.path
        found = pq.ParquetFile(path).metadata
        assert (found.num_rows, found.num_row_groups) == (file.rows, file.row_groups)
        assert path.stat().st_size == file.bytes
    table = pq.read_table(tmp_path / "run")
    assert sorted(table["a.b"].to_pylist()) == list(range(10))
    assert table["list"].to_pylist() == [[n] for n in table["a.b"].to_pylist()]


def test_a_frame_without_rows_becomes_one_file_with_its_columns(
    spark: SparkSession, tmp_path: Path
) -> None:
    (file,) = parquet.write(spark.range(0), str(tmp_path / "run"))
    assert (file.rows, pq.read_table(tmp_path / "run" / file.path).column_names) == (0, ["id"])


def test_a_file_of_an_attempt_that_reported_nothing_is_removed(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    def leave_another(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        (folder / "part-00000-killed.parquet").write_bytes(b"half")
        yield from batches

    (file,) = parquet.write(spark.range(5).coalesce(1), str(folder), leave_another)
    assert [path.name for path in folder.iterdir()] == [file.path]


def test_a_row_group_is_closed_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [pa.record_batch({"x": pa.array(range(size))}) for size in (0, 3, 3, 0, 1)]
    monkeypatch.setattr(parquet, "GROUP_BYTES", 30)
    assert [len(table) for table in parquet._row_groups(batches)] == [6, 1]


def encodings(path: Path) -> dict[str, set[str]]:
    """Return the encodings of each column of a file."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    return {chunk.path_in_schema: set(chunk.encodings) - {"RLE"} for chunk in chunks}


def test_a_column_is_encoded_by_how_often_its_values_repeat(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = spark.range(1000).selectExpr(
        "id", "id % 250 as few", "id % 251 as many", "id * 7 as time", "array(id % 2) as list"
    )
    (file,) = parquet.write(rows.coalesce(1), str(tmp_path / "run"))
    path = tmp_path / "run" / file.path
    plain, dictionary = {"PLAIN"}, {"PLAIN", "RLE_DICTIONARY"}
    assert encodings(path) == {
        "id": plain, "few": dictionary, "many": plain, "time": {"DELTA_BINARY_PACKED"},
        "list.list.element": plain,
    }  # fmt: skip
    assert rows.exceptAll(spark.read.parquet(str(path))).count() == 0


@pytest.mark.parametrize(
    "value",
    [
        "cast(null as void)", "true", "decimal(1.5)", "date'2026-01-01'", "'text'", "x'00'",
        "timestamp'2026-01-01'", "timestamp_ntz'2026-01-01'", "map('a', 1)",
        "cast('nan' as double)",
    ],
)  # fmt: skip
def test_values_of_any_type_are_written(spark: SparkSession, tmp_path: Path, value: str) -> None:
    rows = spark.range(8).selectExpr(f"{value} as time", f"if(id = 0, null, {value}) as b")
    parquet.write(rows, str(tmp_path / "run"))
    found = spark.read.schema(rows.schema).parquet(str(tmp_path / "run"))
    assert sorted(map(str, found.collect())) == sorted(map(str, rows.collect()))
