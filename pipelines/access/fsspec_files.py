"""Files on Spark Connect, whose driver has no JVM: fsspec, pyarrow and Hadoop's patterns."""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.compression import compr
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipelines.access.files import (
    AUTHORITY,
    Entry,
    Footer,
    escaped,
    not_an_address,
    reason,
    unreadable,
    unreadable_parquet,
)

NANOSECONDS = re.compile(
    r"  \w+ int64 (?:field_id=-?\d+ )?(.+) \(Timestamp\(isAdjustedToUTC=(true|false),"
    r" timeUnit=nanoseconds.*\)\);"
)
BRACES = re.compile(r"(?<!\\)\{((?:\\.|[^{}\\])*)\}")
PART = re.compile(r"\\.|\[\^?\]?[^\]]*\]|.", re.DOTALL)
"""A part of a pattern: an escaped character, a set of characters, or a character."""

AS_IN_JAVA = "/:=@&+$,;!*'()~"
"""What Java's URIs leave as it is."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
OTHER_COMPRESSIONS = (".deflate", ".lz4", ".snappy")
"""Suffixes of files that Spark decompresses, and this module does not."""


@dataclass(frozen=True)
class FsspecFiles:
    """Files on Spark Connect; see ``HadoopFiles``. A path without a scheme is on local disk."""

    def matches(self, path: str) -> tuple[str, list[Entry]]:
        """Return the pattern that Spark reads a path by, and each match."""
        address = self.absolute(path)
        try:
            place = _Place.of(address)
            if place.fs.exists(place.path):
                return escaped(address), [place.entry(place.fs.info(place.path))]
            globs = [fsspec_glob(pattern) for pattern in without_braces(place.path)]
            found = {entry.uri: entry for glob in globs for entry in place.glob(glob)}
        except (ValueError, ImportError) as error:
            raise not_an_address(path, reason(error)) from None
        return address, [found[uri] for uri in sorted(found)]

    def absolute(self, path: str) -> str:
        """Return the address that Spark reads a path from.

        The server has another working directory, and may have another default file system.
        """
        if AUTHORITY.match(path):
            return path
        return f"file://{LocalFileSystem._strip_protocol(path)}"  # noqa: SLF001 (its one way to make a path absolute)

    def children(self, folder: Entry) -> list[Entry]:
        """Return what a folder holds, hidden files too."""
        place = _Place.of(folder.address)
        return [place.entry(info) for info in place.fs.ls(place.path, detail=True)]

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        place = _Place.of(self.absolute(path))
        return bool(place.fs.exists(place.path))

    def size_and_time(self, uri: str) -> tuple[int, int]:
        """Return the bytes of a file, and when it was changed, in milliseconds since 1970."""
        place = _Place.of(_address(uri))
        changed = place.fs.modified(place.path) - datetime(1970, 1, 1, tzinfo=UTC)
        return place.fs.size(place.path), changed // timedelta(milliseconds=1)

    def read_text(self, path: str) -> str:
        """Return the text of a small file."""
        place = _Place.of(self.absolute(path))
        return bytes(place.fs.cat_file(place.path)).decode()

    def write_text(self, path: str, text: str) -> None:
        """Write a small file, over one that is there."""
        place = _Place.of(self.absolute(path))
        place.fs.makedirs(place.path.rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(place.path, text.encode())

    def move(self, path: str, target: str) -> None:
        """Move a file or folder within its file system."""
        place = _Place.of(self.absolute(path))
        place.fs.mv(place.path, _Place.of(self.absolute(target)).path, recursive=True)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder and what it holds, if it is there."""
        place = _Place.of(self.absolute(path))
        if place.fs.exists(place.path):
            place.fs.rm(place.path, recursive=True)

    def footer(self, uri: str) -> Footer:
        """Return what the footer of a Parquet file says."""
        metadata = parquet_metadata(uri)
        printed = str(metadata.schema).partition("\n")[2]
        arrow = (metadata.metadata or {}).get(b"ARROW:schema")
        text = arrow.decode(errors="replace") if arrow else None
        return Footer.of(printed, NANOSECONDS, text, metadata.num_rows)

    def first_line(self, uri: str, encoding: str, check: Callable[[bytes], None]) -> str | None:
        """Return the first line of a file of text; None if it has no lines."""
        with _opened(uri) as (stream, compression):
            if not compression:
                check(stream.read(4))
                stream.seek(0)
            plain = compr[compression](stream, mode="rb") if compression else stream
            line = io.TextIOWrapper(plain, encoding, errors="replace").readline()
            return line.removesuffix("\n") if line else None

    def read_to_the_end(self, uri: str) -> None:
        """Read a file that is compressed."""
        with _opened(uri) as (stream, compression):
            if compression:
                plain = compr[compression](stream, mode="rb")
                while plain.read(1 << 20):
                    pass


@dataclass(frozen=True)
class _Place:
    """A path in a file system of fsspec.

    Attributes:
        fs: the file system, which has forgotten what it listed before.
        start: scheme and host of its addresses.
        root: what its paths begin with in place of these.
        path: the path.
    """

    fs: AbstractFileSystem
    start: str
    root: str
    path: str

    @classmethod
    def of(cls, address: str) -> "_Place":
        """Return the place of an address, which fsspec would cut at ``::`` or ``#``."""
        match = AUTHORITY.match(address)
        assert match, address
        start = f"{match['scheme']}://{match['host'] or ''}"
        fs, root = url_to_fs(f"{start}/")
        fs.invalidate_cache()
        root = root.rstrip("/")
        return cls(fs, start, root, f"{root}/{address[match.end() :].strip('/')}")

    def entry(self, info: dict[str, Any]) -> Entry:
        path = str(info["name"]).removeprefix(self.root).strip("/")
        return Entry(f"{self.start}/{quote(path, safe=AS_IN_JAVA)}", info["type"] == "directory")

    def glob(self, pattern: str) -> Iterator[Entry]:
        for info in self.fs.glob(pattern, detail=True).values():
            yield self.entry(info)


def parquet_metadata(uri: str) -> pq.FileMetaData:
    """Return the metadata of a Parquet file.

    Raises:
        InputError: the file is not Parquet.
    """
    place = _Place.of(_address(uri))
    try:
        with place.fs.open(place.path, "rb") as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise unreadable_parquet(_address(uri), reason(error)) from None


def without_braces(pattern: str) -> list[str]:
    """Return the patterns that a pattern with alternatives in braces, {a,b}, stands for.

    Raises:
        ValueError: a brace is not closed.
    """
    if braces := BRACES.search(pattern):
        start, end = pattern[: braces.start()], pattern[braces.end() :]
        return [
            alternative
            for part in re.split(r"(?<!\\),", braces[1])
            for alternative in without_braces(f"{start}{part}{end}")
        ]
    if re.search(r"(?<!\\)\{", pattern):
        raise ValueError(f"{{ without }} in {pattern}")
    return [pattern]


def fsspec_glob(pattern: str) -> str:
    """Return Hadoop's pattern without braces as fsspec writes it.

    Raises:
        ValueError: a set of characters is not closed.
    """
    glob = ""
    for part in PART.findall(pattern):
        if part == "[":
            raise ValueError(f"[ without ] in {pattern}")
        if part.startswith("\\"):
            glob += f"[{part[1:]}]" if part[1:] in ("*", "?", "[") else part[1:]
        elif part.startswith("[^"):
            glob += f"[!{part[2:]}"
        elif not (part == "*" and glob.endswith("*")):  # Hadoop has no **
            glob += part
    return glob


@contextmanager
def _opened(uri: str) -> Iterator[tuple[IO[bytes], str | None]]:
    """Open a file; yield its stream, and the compression that its name says, if any."""
    address = _address(uri)
    suffix = f".{address.rpartition('.')[2]}"
    place = _Place.of(address)
    try:
        if suffix in OTHER_COMPRESSIONS:
            raise ValueError(f"{suffix} is not supported on Spark Connect")
        with place.fs.open(place.path, "rb") as stream:
            yield stream, COMPRESSIONS.get(suffix)
    except (OSError, EOFError, ValueError, LookupError, ImportError, zlib.error) as error:
        raise unreadable(address, reason(error)) from None


def _address(uri: str) -> str:
    return Entry(uri, is_folder=False).address
