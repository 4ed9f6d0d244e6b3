"""Imports Petastorm so that it reads a file with every supported pyarrow, numpy and Python.

Petastorm 0.12.1 was written for pyarrow 14 and numpy 1. Two things let it run on newer ones:

- Some of its modules need what pyarrow, numpy or Python have removed, and reading one file does not
  use them. Empty modules stand in for these while the reader is imported.
- The modules that read find ``_File`` and ``_RowGroup`` where they look for ``pyarrow.parquet``.
  These open any fsspec file system.

For all other code pyarrow, numpy and the modules that can be imported are unchanged.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

__all__ = ["ArrowReaderWorker", "DummyPool", "EmptyResultError", "Reader"]

_UNUSED: Mapping[str, Sequence[str]] = {
    "petastorm.hdfs.namenode": ["HdfsConnector", "HdfsNamenodeResolver"],  # distutils, pyarrow.hdfs
    "petastorm.utils": [],  # pyarrow.filesystem; the package future, see docs/security.md
    "petastorm.local_disk_cache": ["LocalDiskCache"],  # the package diskcache, see there too
}
"""Module of Petastorm -> what others import from it."""


@contextmanager
def _stand_ins(modules: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Let imports find an empty module for each of these that is not imported yet."""
    absent = modules.keys() - sys.modules.keys()
    for name in absent:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(dict.fromkeys(modules[name]))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _stand_ins(_UNUSED):
    from petastorm import arrow_reader_worker, reader
    from petastorm.arrow_reader_worker import ArrowReaderWorker
    from petastorm.etl import dataset_metadata
    from petastorm.reader import Reader
    from petastorm.unischema import Unischema, UnischemaField
    from petastorm.workers_pool import EmptyResultError
    from petastorm.workers_pool.dummy_pool import DummyPool


class _File:
    """One Parquet file: a data set to Petastorm, and the only file in it."""

    metadata = common_metadata = partitions = None  # Petastorm reads the footer instead
    partition_keys = ()

    def __init__(self, path: str, filesystem: AbstractFileSystem, **_: Any) -> None:
        self.path, self.fs, self.pieces = path, filesystem, [self]

    @cached_property
    def footer(self) -> pq.FileMetaData:
        with self.fs.open(self.path) as file:
            return pq.read_metadata(file)

    def get_metadata(self) -> pq.FileMetaData:
        return self.footer


@dataclass
class _RowGroup:
    path: str
    open_file_func: Callable[[str], IO[bytes]]
    row_group: int
    partition_keys: tuple[()]

    def read(self, columns: Iterable[str], partitions: None) -> pa.Table:  # noqa: ARG002 (Petastorm's signature)
        with self.open_file_func(self.path) as file, pq.ParquetFile(file) as parquet:
            return parquet.read_row_group(self.row_group, columns=list(columns))


def _names_only(file: _File) -> Unischema:
    """Return a schema without types, because Petastorm calls some by names that numpy 2 lacks."""
    names = file.footer.schema.to_arrow_schema().names
    return Unischema("file", [UnischemaField(name, None, ()) for name in names])


for _module in (arrow_reader_worker, dataset_metadata, reader):
    _module.pq = SimpleNamespace(ParquetDataset=_File, ParquetDatasetPiece=_RowGroup)
reader.infer_or_load_unischema = _names_only
