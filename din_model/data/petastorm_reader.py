"""Reads one Parquet file through Petastorm, from any fsspec address, as Arrow's columns.

Petastorm reads and decodes the row groups, in its pool without threads: batches are prefetched in a
thread anyway, and each further one takes cores from the training step. Its own conversion of lists
makes one array per row, which took three quarters of the reading time; here columns stay Arrow's.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from fsspec.core import url_to_fs

from din_model.data.petastorm_adapter import (
    ArrowReaderWorker,
    DummyPool,
    EmptyResultError,
    Reader,
)
from din_model.errors import InputError, reading


def row_groups(url: str, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    """Yield the named columns of each row group.

    Raises:
        InputError: the file is missing or damaged.
    """
    fs, path = url_to_fs(url)
    if not fs.isfile(path):
        raise InputError(f"{url}: listed in the manifest but missing: build the date again")
    with reading(url), Reader(
        fs, path, schema_fields=[f"^{name}$" for name in names], worker_class=_Worker,
        reader_pool=_Pool(), shuffle_row_groups=False, num_epochs=1, is_batched_reader=True,
    ) as reader:  # fmt: skip
        for group in reader:
            yield {name: _whole(getattr(group, name)) for name in names}


class _Pool(DummyPool):
    """Petastorm's pool without threads, with all row groups in its queue before the first read.

    Petastorm's pools look for work, and then ask whether more will come. They lose what the thread
    of the ventilator adds in between, or wait for ever for a row group after the last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.workers_count = sys.maxsize  # the ventilator hands out this many row groups at once

    def start(self, worker_class: type, worker_args: Any, ventilator: Any) -> None:
        """Make the worker, and take all row groups from the ventilator, in this thread."""
        super().start(worker_class, worker_args)
        ventilator._ventilate()  # noqa: SLF001 (its start() runs this in a thread)


class _Columns:
    """Passes on the columns that the worker read, unchanged."""

    batched_output = True

    def read_next(self, workers_pool: Any, schema: Any, ngram: None) -> Any:  # noqa: ARG002 (Petastorm's signature)
        """Return the next row group as a named tuple of Arrow columns."""
        try:
            table = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return schema.make_namedtuple(**{n: table.column(n) for n in table.column_names})


class _Worker(ArrowReaderWorker):
    @staticmethod
    def new_results_queue_reader() -> _Columns:
        """Return the reader of this worker's results."""
        return _Columns()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
