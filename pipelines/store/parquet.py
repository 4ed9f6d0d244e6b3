"""Writes the partitions of a frame as Parquet files, with pyarrow on the executors.

Spark's own writer unpacks lists value by value, which takes most of the time of a build; pyarrow
encodes them as they lie in memory. Each task attempt writes under its own file name. Only files
that a finished attempt reported are kept, so retried and speculative attempts do no harm.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

Batches = Iterable[pa.RecordBatch]
Prepare = Callable[[Batches], Iterator[pa.RecordBatch]]

GROUP_BYTES = 128 << 20
"""Size in memory at which a row group is closed; it bounds the memory of a task."""

SAMPLED = 50_000
"""Rows of a row group by which the encoding of a column is chosen."""

SCHEMA = "task int, path string, rows long, bytes long, row_groups int"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a run; ``path`` is relative to the run folder."""

    path: str
    rows: int
    bytes: int
    row_groups: int


def write(rows: DataFrame, folder: str, prepare: Prepare = iter) -> tuple[DataFile, ...]:
    """Write one file per partition with rows, zstd; one empty file if there are no rows.

    Args:
        rows: the frame.
        folder: address of a folder that does not exist yet.
        prepare: applied to the batches of a task before they are written.
    """
    names = rows.columns

    def run(batches: Batches) -> Iterator[pa.RecordBatch]:
        return _write_partition(prepare(_renamed(batches, names)), folder)

    fs, base = url_to_fs(folder)
    fs.makedirs(base, exist_ok=True)
    # mapInArrow reads a dot in a name as a part of a struct.
    numbered = rows.toDF(*[f"column_{i}" for i in range(len(names))])
    reported = sorted(numbered.mapInArrow(run, SCHEMA).collect())
    files = tuple(DataFile(*row[1:]) for row in reported)
    if not files:
        empty = to_arrow_schema(rows.schema).empty_table()
        with fs.open(f"{base}/part-00000.parquet", "wb") as out:
            pq.write_table(empty, out, compression="zstd")
        files = (DataFile("part-00000.parquet", 0, fs.size(f"{base}/part-00000.parquet"), 1),)
    reported_paths = {file.path for file in files}
    for path in fs.ls(base, detail=False):
        if (name := path.rpartition("/")[2]) not in reported_paths:
            fs.rm(f"{base}/{name}")  # written by an unfinished attempt
    return files


def _renamed(batches: Batches, names: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        fields = [f.with_name(name) for f, name in zip(batch.schema, names, strict=True)]
        yield pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields))


def _write_partition(batches: Batches, folder: str) -> Iterator[pa.RecordBatch]:
    pa.set_cpu_count(1)  # other cores run other tasks
    context = TaskContext.get()
    assert context is not None
    task = context.partitionId()
    name = f"part-{task:05d}-{secrets.token_hex(3)}.parquet"
    fs, base = url_to_fs(folder)
    writer: pq.ParquetWriter | None = None
    rows = groups = 0
    for table in _row_groups(batches):
        if writer is None:
            out = fs.open(f"{base}/{name}", "wb")
            writer = pq.ParquetWriter(out, table.schema, compression="zstd", **_encodings(table))
        writer.write_table(table, row_group_size=len(table))
        rows, groups = rows + len(table), groups + 1
    if writer is None:
        return
    writer.close()
    out.close()
    size = fs.size(f"{base}/{name}")
    values = [[task], [name], [rows], [size], [groups]]
    types = [pa.int32(), pa.string(), pa.int64(), pa.int64(), pa.int32()]
    arrays = [pa.array(v, t) for v, t in zip(values, types, strict=True)]
    yield pa.RecordBatch.from_arrays(arrays, ["task", "path", "rows", "bytes", "row_groups"])


def _encodings(table: pa.Table) -> dict[str, Any]:
    """Return options of ``pq.ParquetWriter``: how the columns of such a table are encoded.

    A dictionary of nearly as many values as rows makes a column larger, and most columns of ids are
    of that kind. Those of few values, such as counters of items, become a fifth smaller by one.
    """
    flat = [f.name for f in table.schema if not (pa.types.is_nested(f.type) or f.type == pa.null())]
    few = [name for name in flat if _repeats(table[name])]
    deltas = {}
    if "time" in flat and "time" not in few and pa.types.is_int64(table["time"].type):
        deltas = {"time": "DELTA_BINARY_PACKED"}
    return {"use_dictionary": few, "column_encoding": deltas or None}


def _repeats(column: pa.ChunkedArray) -> bool:
    """Tell whether a value stands in four rows or more on average."""
    sample = column.slice(0, SAMPLED)
    return bool(pc.count_distinct(sample).as_py() * 4 <= len(sample))


def _row_groups(batches: Batches) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            pending.append(batch)
            size += batch.nbytes
        if size >= GROUP_BYTES:
            yield pa.Table.from_batches(pending)
            pending, size = [], 0
    if pending:
        yield pa.Table.from_batches(pending)
