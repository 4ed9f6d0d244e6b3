"""One Parquet file through Petastorm: of any address that fsspec knows, its lists as matrices.

Row groups and their decoding are Petastorm's; of its pools the one without threads, since batches
are read ahead in a thread anyway and every further one takes cores from the training step. Two
things of version 0.12 are not as we need them: it takes lists apart into one array a row, which
cost three quarters of reading, and with the pyarrow that it needs it opens nothing but local files.
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
        InputError: the file is not there, or the lists of a column differ in length.
    """
    fs, path = url_to_fs(url)
    if not fs.isfile(path):
        raise InputError(f"{url}: its manifest names it, but it is gone: build the date again")
    local = "file" in fs.protocol
    with reading(url), Reader(
        LocalFileSystem() if local else _Remote(fs), path,
        schema_fields=[f"^{name}$" for name in names], worker_class=_Worker,
        reader_pool=DummyPool(), shuffle_row_groups=False, num_epochs=1, is_batched_reader=True,
    ) as reader:  # fmt: skip
        for group in reader:
            yield {name: _array(f"{url}: column {name}", getattr(group, name)) for name in names}


class _Remote(DaskFileSystem):
    """What pyarrow's old data sets ask of a file system and its own wrapper of fsspec lacks."""

    def isdir(self, path: str) -> bool:
        return bool(self.fs.isdir(path))

    def isfile(self, path: str) -> bool:
        return bool(self.fs.isfile(path))


class _Columns:
    """Hands on the columns that the worker read as they are."""

    batched_output = True

    def read_next(self, workers_pool: Any, schema: Any, ngram: None) -> Any:
        try:
            table = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return schema.make_namedtuple(**{n: table.column(n) for n in table.column_names})


class _Worker(ArrowReaderWorker):
    @staticmethod
    def new_results_queue_reader() -> _Columns:
        return _Columns()


def _array(name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    """The column as an array over Arrow's own memory."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    lengths = np.unique(np.diff(array.offsets.to_numpy()))
    if len(lengths) > 1:
        raise InputError(
            f"{name}: lists of {lengths[0]} to {lengths[-1]} ids, but all must be of one length"
        )
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
