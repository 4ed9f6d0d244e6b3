"""Writes a frame's partitions as Parquet files, by pyarrow on the executors.

Spark's own writer takes lists apart value by value, which is most of the time of a build; pyarrow
encodes them as they lie in memory. A task writes to a name of its own, so a retried or speculative
one spoils nothing: only files that a finished task told of are kept.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

Batches = Iterable[pa.RecordBatch]
Prepare = Callable[[Batches], Iterator[pa.RecordBatch]]

GROUP_BYTES = 128 << 20
"""A row group is closed when its rows take so much memory; it bounds what a task holds."""

SCHEMA = "task int, path string, rows long, bytes long, row_groups int"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a run; ``path`` is relative to the run folder."""

    path: str
    rows: int
    bytes: int
    row_groups: int


def write(rows: DataFrame, folder: str, prepare: Prepare = iter) -> tuple[DataFile, ...]:
    """Write one file a partition that holds rows (one empty file if none does), zstd.

    Args:
        folder: address of a folder that is not there yet.
        prepare: what is done to a task's batches on their way to the file.
    """

    def run(batches: Batches) -> Iterator[pa.RecordBatch]:
        return _write_partition(prepare(batches), folder)

    fs, base = url_to_fs(folder)
    fs.makedirs(base, exist_ok=True)
    told = sorted(rows.mapInArrow(run, SCHEMA).collect())
    files = tuple(DataFile(*row[1:]) for row in told)
    if not files:
        empty = to_arrow_schema(rows.schema).empty_table()
        with fs.open(f"{base}/part-00000.parquet", "wb") as out:
            pq.write_table(empty, out, compression="zstd")
        files = (DataFile("part-00000.parquet", 0, fs.size(f"{base}/part-00000.parquet"), 1),)
    kept = {file.path for file in files}
    for path in fs.ls(base, detail=False):
        if (name := path.rpartition("/")[2]) not in kept:
            fs.rm(f"{base}/{name}")  # of a task that did not finish
    return files


def _write_partition(batches: Batches, folder: str) -> Iterator[pa.RecordBatch]:
    pa.set_cpu_count(1)  # the other cores belong to other tasks
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
            # Ids of users and items seldom repeat enough for a dictionary to pay.
            writer = pq.ParquetWriter(out, table.schema, compression="zstd", use_dictionary=False)
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


def _row_groups(batches: Batches) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            size += batch.nbytes
        if size >= GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)
