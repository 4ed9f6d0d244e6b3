"""A root folder on any file system, and the small files that the driver writes below it."""

import re
import secrets
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from din_model import masking
from din_model.config import expand
from din_model.errors import InputError
from pipelines.store.delta import File, Table, storage_options


@dataclass(frozen=True)
class Location:
    """A root folder; paths are relative to it.

    Attributes:
        fs: its file system.
        base: its path there.
        url: its address for Spark, always with a scheme.
    """

    fs: AbstractFileSystem
    base: str
    url: str

    @classmethod
    def of(cls, path: str, key: str) -> "Location":
        """Return the location that a configuration key names; ``${VARIABLE}`` is replaced.

        Raises:
            InputError: the path holds a password, is a file, or has no known scheme.
        """
        if masking.holds_secret(expand(path)) or masking.names_secret(path):
            raise InputError(
                f"{key}: {path} holds a password, but the logs of the tables name their folders:"
                " name another one"
            )
        try:
            fs, base = url_to_fs(expand(path))
        except (ValueError, ImportError) as error:
            raise InputError(f"{key}: {path} cannot be opened: {error}") from None
        # Without a scheme Spark would use the cluster's default file system, and fsspec this disk.
        location = cls(fs, base, expand(path) if "://" in path else f"file://{base}")
        if location.local and fs.isfile(base):
            raise InputError(f"{key}: {path} is a file: name a folder")
        if location.local and (found := re.search(r"[%\\]", base)):
            raise InputError(
                f"{key}: {path} contains {found[0]}, which the library of Delta tables takes"
                " for an escape: name another folder"
            )
        return location

    @property
    def local(self) -> bool:
        """Whether it is on this machine's disk, where locks and renames work."""
        return "file" in self.fs.protocol

    def table(self, name: str, partitions: dict[str, str]) -> Table:
        """Return the Delta table in a folder; ``name`` is empty for the root itself."""
        # The library decodes addresses, so a local path is given as a path.
        url = f"{self.base if self.local else self.url}/{name}".rstrip("/")
        return Table(url, storage_options(self.fs), partitions)

    def write_text(self, path: str, text: str) -> str:
        """Write a file in one step; return its address."""
        target = f"{self.base}/{path}"
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        if self.local or "hdfs" in self.fs.protocol:
            draft = f"{target}.{secrets.token_hex(3)}"
            self.fs.pipe_file(draft, text.encode())
            self.fs.mv(draft, target)
        else:  # object stores show a file once it is complete
            self.fs.pipe_file(target, text.encode())
        return f"{self.url}/{path}"

    def write_rows(self, folder: str, name: str, rows: pa.Table) -> File:
        """Write a small Parquet file; return its name, size and rows."""
        path = f"{self.base}/{folder}/{name}"
        self.fs.makedirs(f"{self.base}/{folder}", exist_ok=True)
        with self.fs.open(path, "wb") as file:
            pq.write_table(rows, file)
        return File(name, self.fs.size(path), len(rows))

    def schema_of(self, path: str) -> pa.Schema:
        """Return the columns of a Parquet file."""
        with self.fs.open(f"{self.base}/{path}", "rb") as file:
            return pq.read_schema(file)

    def remove(self, path: str) -> None:
        """Remove a folder, if it is there."""
        if self.fs.exists(f"{self.base}/{path}"):
            self.fs.rm(f"{self.base}/{path}", recursive=True)

    def folders(self, path: str) -> list[str]:
        """Return the paths in a folder; not by glob, because a root is no pattern."""
        try:
            return sorted(self.fs.ls(f"{self.base}/{path}", detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
