"""Files on a classic session: Hadoop's file systems as Spark sees them, through its JVM."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from pipelines.access.files import (
    Entry,
    Footer,
    escaped,
    not_an_address,
    reason,
    unreadable,
    unreadable_parquet,
)

NANOSECONDS = re.compile(r"  \w+ int64 (.+) \(TIMESTAMP\(NANOS,(true|false)\)\);")


@dataclass(frozen=True)
class HadoopFiles:
    """Files on a classic session; ``FsspecFiles`` has the same methods.

    A path is an address or a path of Hadoop's default file system. A URI is encoded, as Spark names
    the files that it reads.
    """

    spark: SparkSession

    def matches(self, path: str) -> tuple[str, list[Entry]]:
        """Return the pattern that Spark reads a path by, and each match.

        A path that exists is no pattern, whatever characters it holds.

        Raises:
            InputError: the path is neither an address nor a pattern.
        """
        try:
            files, named = self._of_path(path)
            if files.exists(named):
                return escaped(path), [_entry(files.getFileStatus(named))]
            return path, [_entry(status) for status in files.globStatus(named) or ()]
        except (PySparkException, Py4JError) as error:
            raise not_an_address(path, reason(error)) from None

    def absolute(self, path: str) -> str:
        """Return the address that Spark reads a path from."""
        return path

    def children(self, folder: Entry) -> list[Entry]:
        """Return what a folder holds, hidden files too."""
        files, path = self._of_uri(folder.uri)
        return [_entry(status) for status in files.listStatus(path)]

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        files, named = self._of_path(path)
        return bool(files.exists(named))

    def size_and_time(self, uri: str) -> tuple[int, int]:
        """Return the bytes of a file, and when it was changed, in milliseconds since 1970."""
        files, path = self._of_uri(uri)
        status = files.getFileStatus(path)
        return status.getLen(), status.getModificationTime()

    def read_text(self, path: str) -> str:
        """Return the text of a small file."""
        files, named = self._of_path(path)
        return bytes(files.open(named).readAllBytes()).decode()

    def write_text(self, path: str, text: str) -> None:
        """Write a small file, over one that is there."""
        files, named = self._of_path(path)
        stream = files.create(named, True)
        stream.write(bytearray(text, "utf-8"))
        stream.close()

    def move(self, path: str, target: str) -> None:
        """Move a file or folder within its file system."""
        files, named = self._of_path(path)
        files.rename(named, self._of_path(target)[1])

    def remove(self, path: str) -> None:
        """Remove a file, or a folder and what it holds, if it is there."""
        files, named = self._of_path(path)
        files.delete(named, True)

    def footer(self, uri: str) -> Footer:
        """Return what the footer of a Parquet file says.

        Raises:
            InputError: the file is not Parquet.
        """
        metadata, rows = parquet_metadata(self.spark, uri)
        arrow = metadata.getKeyValueMetaData().get("ARROW:schema")
        return Footer.of(metadata.getSchema().toString(), NANOSECONDS, arrow, rows)

    def first_line(self, uri: str, encoding: str, check: Callable[[bytes], None]) -> str | None:
        """Return the first line of a file of text; None if it has no lines.

        Args:
            uri: of the file.
            encoding: as Java names it.
            check: called with the first four bytes of a file that is not compressed.

        Raises:
            InputError: the file is not compressed as its name says.
        """
        java: Any = self.spark._jvm.java  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
        with self._opened(uri) as (stream, codec):
            if codec is None:
                check(bytes(byte for _ in range(4) if (byte := stream.read()) >= 0))
                stream.seek(0)
            text = codec.createInputStream(stream) if codec else stream
            reader = java.io.BufferedReader(java.io.InputStreamReader(text, encoding))
            return reader.readLine()

    def read_to_the_end(self, uri: str) -> None:
        """Read a file that is compressed.

        Raises:
            InputError: it is cut off or damaged.
        """
        apache: Any = self.spark._jvm.org.apache  # type: ignore[union-attr]  # noqa: SLF001 (the same)
        with self._opened(uri) as (stream, codec):
            if codec:
                apache.commons.io.IOUtils.consume(codec.createInputStream(stream))

    @contextmanager
    def _opened(self, uri: str) -> Iterator[tuple[Any, Any]]:
        """Open a file; yield its stream, and the codec that its name says, if any."""
        files, path = self._of_uri(uri)
        factory = self.spark._jvm.org.apache.hadoop.io.compress.CompressionCodecFactory  # type: ignore[union-attr]  # noqa: SLF001 (the same)
        codec = factory(self.spark._jsc.hadoopConfiguration()).getCodec(path)  # noqa: SLF001 (the same)
        stream = None
        try:
            stream = files.open(path)
            yield stream, codec
        except (PySparkException, Py4JError) as error:
            raise unreadable(path.toString(), reason(error)) from None
        finally:
            if stream is not None:
                stream.close()

    def _of_path(self, path: Any) -> tuple[Any, Any]:
        """Return the file system of a path, or of a Java URI, and Hadoop's path."""
        named = self.spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]  # noqa: SLF001 (the same)
        return named.getFileSystem(self.spark._jsc.hadoopConfiguration()), named  # noqa: SLF001 (the same)

    def _of_uri(self, uri: str) -> tuple[Any, Any]:
        return self._of_path(self.spark._jvm.java.net.URI(uri))  # type: ignore[union-attr]  # noqa: SLF001 (the same)


def parquet_metadata(spark: SparkSession, uri: str) -> tuple[Any, int]:
    """Return Java's metadata of a Parquet file, and the number of its rows.

    Raises:
        InputError: the file is not Parquet.
    """
    jvm: Any = spark._jvm  # noqa: SLF001 (the same)
    hadoop = jvm.org.apache.parquet.hadoop
    path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
    try:
        source = hadoop.util.HadoopInputFile.fromPath(path, spark._jsc.hadoopConfiguration())  # noqa: SLF001 (the same)
        reader = hadoop.ParquetFileReader.open(source)
        try:
            return reader.getFileMetaData(), reader.getRecordCount()
        finally:
            reader.close()
    except (PySparkException, Py4JError) as error:
        raise unreadable_parquet(path.toString(), reason(error)) from None


def _entry(status: Any) -> Entry:
    return Entry(status.getPath().toUri().toString(), status.isDirectory())
