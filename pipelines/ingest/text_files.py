"""Files of text: what is checked before Spark reads them, and the header of each CSV file."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.access.choice import session_files
from pipelines.access.files import Entry

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

    def first_line(file: str) -> str | None:
        refuse = partial(_refuse_other_formats, file=file)
        return session_files(spark).first_line(file, encoding, refuse)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(first_line, files))
    groups: dict[str, list[str]] = {}
    for file, line in zip(files, found, strict=True):
        if line is not None:
            groups.setdefault(line, []).append(file)
    return groups


def _refuse_other_formats(start: bytes, file: str) -> None:
    for magic, (found, needed) in MAGIC.items():
        if start.startswith(magic):
            raise InputError(
                f"{Entry(file, is_folder=False).address}: {found} under the name of a text file:"
                f" needed is {needed}"
            )
