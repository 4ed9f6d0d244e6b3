"""Files of text: what is checked before Spark reads them, and the header of each CSV file."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.hadoop import of_uri, reason

THREADS = 16
MAGIC = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"BZh": ("bzip2", ".bz2"),
    b"\x28\xb5\x2f\xfd": ("zstandard", ".zst"),
    b"PK\x03\x04": ("zip", "a format that Spark reads"),
    b"PAR1": ("Parquet", "format: parquet"),
}
"""First bytes of files that are no text, their format, and what would tell Spark."""


def first_lines(spark: SparkSession, files: Sequence[str], encoding: str) -> dict[str, list[str]]:
    """Group files by their first line; files without text are left out.

    Args:
        spark: the session.
        files: encoded URIs.
        encoding: as Java names it.

    Raises:
        InputError: a file is not the text, or not compressed as, its name says.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda file: _first_line(spark, file, encoding), files))
    groups: dict[str, list[str]] = {}
    for file, line in zip(files, found, strict=True):
        if line is not None:
            groups.setdefault(line, []).append(file)
    return groups


def read_to_the_end(spark: SparkSession, file: str) -> None:
    """Read a compressed file, in this process.

    Args:
        spark: the session.
        file: encoded URI.

    Raises:
        InputError: it is cut off or damaged.
    """
    jvm: Any = spark._jvm  # noqa: SLF001 (PySpark has no public way)
    with _opened(spark, file) as (stream, codec, _):
        if codec:
            jvm.org.apache.commons.io.IOUtils.consume(codec.createInputStream(stream))


def _first_line(spark: SparkSession, file: str, encoding: str) -> str | None:
    """Return the first line; None for a file without lines."""
    jvm: Any = spark._jvm  # noqa: SLF001 (PySpark has no public way)
    with _opened(spark, file) as (stream, codec, path):
        if codec is None:
            _refuse_other_formats(stream, path)
        text = codec.createInputStream(stream) if codec else stream
        reader = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(text, encoding))
        return reader.readLine()


@contextmanager
def _opened(spark: SparkSession, file: str) -> Iterator[tuple[Any, Any, Any]]:
    """Open a file; yield its stream, the codec that its name says, if any, and its path."""
    files, path = of_uri(spark, file)
    factory = spark._jvm.org.apache.hadoop.io.compress.CompressionCodecFactory  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    codec = factory(spark._jsc.hadoopConfiguration()).getCodec(path)  # noqa: SLF001 (the same)
    stream = None
    try:
        stream = files.open(path)
        yield stream, codec, path
    except (PySparkException, Py4JError) as error:
        raise InputError(
            f"{path.toString()}: cannot be read ({reason(error)}): replace the file, or correct the"
            " end of its name"
        ) from None
    finally:
        if stream is not None:
            stream.close()


def _refuse_other_formats(stream: Any, path: Any) -> None:
    start = bytes(byte for _ in range(4) if (byte := stream.read()) >= 0)
    stream.seek(0)
    for magic, (found, needed) in MAGIC.items():
        if start.startswith(magic):
            raise InputError(
                f"{path.toString()}: {found} under the name of a text file: needed is {needed}"
            )
