"""Reads one Parquet file through Petastorm, from any fsspec address, with lists as matrices.

Petastorm reads and decodes the row groups, in its pool without threads: batches are prefetched in a
thread anyway, and each further one takes cores from the training step. Version 0.12 needs two
changes: it splits lists into one array per row, which took three quarters of the reading time, and
with the pyarrow that it requires it opens local files only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from numpy.typing import NDArray
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.dummy_pool import DummyPool
from pyarrow.filesystem import DaskFileSystem, LocalFileSystem

from din_model.errors import InputError, reading


def row_groups(url: str, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the named columns of each row group: [rows], or [rows, L] for lists of length L.

    Raises:
        InputError: the file is missing, or the lists of a column differ in length.
    """
    fs, path = url_to_fs(url)
    if not fs.isfile(path):
        raise InputError(f"{url}: listed in the manifest but missing: build the date again")
    local = "file" in fs.protocol
    with reading(url), Reader(
        LocalFileSystem() if local else _Remote(fs), path,
        schema_fields=[f"^{name}$" for name in names], worker_class=_Worker,
        reader_pool=DummyPool(), shuffle_row_groups=False, num_epochs=1, is_batched_reader=True,
    ) as reader:  # fmt: skip
        for group in reader:
            yield {name: _array(f"{url}: column {name}", getattr(group, name)) for name in names}


class _Remote(DaskFileSystem):
    """Adds the file system calls of pyarrow's old data sets that its fsspec wrapper lacks."""

    def isdir(self, path: str) -> bool:
        """Return whether the path is a folder."""
        return bool(self.fs.isdir(path))

    def isfile(self, path: str) -> bool:
        """Return whether the path is a file."""
        return bool(self.fs.isfile(path))


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


def _array(name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    """Return the column as an array over Arrow's own memory."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    lengths = np.unique(np.diff(array.offsets.to_numpy()))
    if len(lengths) > 1:
        raise InputError(
            f"{name}: lists of {lengths[0]} to {lengths[-1]} ids; all must have one length"
        )
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
