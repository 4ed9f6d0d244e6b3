"""Reads the raw rows of sources, as their files are written.

The files of a date may differ: a column more, another order or type. Files that are written alike
are read together, and each such part is cast by itself.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.config import expand
from din_model.errors import InputError
from pipelines.access.choice import session_files
from pipelines.access.files import Entry, escaped, path_of, reason
from pipelines.columns import quoted
from pipelines.failures import CUT_OFF
from pipelines.ingest import delta_tables
from pipelines.ingest.parquet_files import layouts, readable_schema, typed
from pipelines.ingest.raw_rows import Raw, queried
from pipelines.ingest.source_checks import check_source
from pipelines.ingest.sources import CORRUPT, Source
from pipelines.ingest.text_files import first_lines

NO_SCHEMA = "unknown int"
"""Any schema keeps Spark from inferring one where only the names of files are wanted."""


def read(
    spark: SparkSession, source: Source, name: str, days: Sequence[date], optional: bool = False
) -> list[Raw]:
    """Return the raw rows of ``days`` (all rows of a source that is not dated), query applied.

    Lines that the format could not read keep their text in ``_corrupt_record``.

    Args:
        spark: the session.
        source: what to read.
        name: of the source, for error messages.
        days: the dates.
        optional: skip missing dates, and read a damaged file as far as it goes.

    Raises:
        InputError: no such path or table, an unreadable file, an invalid query, no data for a date.
    """
    check_source(spark, source, name)
    raws: list[Raw] = []
    for day in days if source.dated else days[-1:]:
        path = source.path_of(day)
        pattern, found = session_files(spark).matches(path) if path else ("", [])
        if path and not found:
            if optional:
                continue
            if source.dated:
                raise InputError(
                    f"sources.{name}: no data for {day}: {path} does not exist: wait for it, or, if"
                    " the logs of that date are lost, add it to sources.lost_dates"
                )
            raise InputError(f"sources.{name}: no such file: {path} does not exist")
        place = _Place(spark, source, name, pattern, tuple(found), optional)
        try:
            parts = [raw for raw in place.parts() if raw.rows.columns]
            raws += queried(parts, source, name, day) if source.query else parts
        except (PySparkException, Py4JJavaError) as error:
            raise InputError(f"sources.{name}: {reason(error)}") from None
    return raws or [Raw(spark.createDataFrame([], T.StructType([])), f"sources.{name}")]


@contextmanager
def naming_damaged(spark: SparkSession, files: Sequence[str]) -> Iterator[None]:
    """Name the compressed file that ended a job, because Spark does not.

    Args:
        spark: the session.
        files: encoded URIs of what is read.

    Raises:
        InputError: one of the files cannot be read to its end.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if CUT_OFF.search(str(error)):
            for file in files:
                session_files(spark).read_to_the_end(file)
        raise


def files_of(frames: Sequence[DataFrame]) -> list[str]:
    """Return the files behind frames, as encoded URIs; a persisted frame does not list its own."""
    return sorted({file for frame in frames for file in frame.inputFiles()})


def fingerprint(spark: SparkSession, frames: Sequence[DataFrame]) -> dict[str, Any]:
    """Return the number of files behind the frames, and a hash of names, sizes and times of change.

    Call it before the frames are persisted: a cached frame does not list its files.
    """
    digest, files = hashlib.sha256(), files_of(frames)
    for file in files:
        size, changed = session_files(spark).size_and_time(file)
        digest.update(f"{file} {size} {changed}\n".encode())
    return {"files": len(files), "fingerprint": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class _Place:
    """The table, folder or files of a source on one date."""

    spark: SparkSession
    source: Source
    name: str
    pattern: str
    roots: tuple[Entry, ...]  # what the pattern matches
    lenient: bool  # read a damaged file as far as it goes

    @property
    def options(self) -> dict[str, str]:
        """The options of Spark's reader, by names in lower case."""
        options = self.source.options or {}
        return {name.lower(): expand(value) for name, value in options.items()}

    def reader(self, schema: T.StructType | str | None = None, **options: str) -> DataFrameReader:
        """Return a reader of the source's format."""
        lenient = {"ignoreCorruptFiles": "true"} if self.lenient else {}
        reader = self.spark.read.format(self.source.format)
        reader = reader.options(**self.options | options | lenient)
        return reader.schema(schema) if schema else reader

    def parts(self) -> Iterator[Raw]:
        """Yield the rows, files that are written alike together."""
        kind = self.source.format.lower()
        if self.source.table:
            yield Raw(self.spark.read.table(self.source.table), self.source.table)
        elif not self.roots:
            raise InputError(f"sources.{self.name}: set path or table")
        elif kind == delta_tables.KIND:
            for root in self.roots:
                yield Raw(delta_tables.table_rows(self.spark, root.uri, self.options), root.uri)
        elif kind not in ("parquet", "csv", "json"):
            yield Raw(self.reader(self.source.schema).load(self.pattern), self.pattern)
        else:
            files = self.reader(NO_SCHEMA).load(self.pattern).inputFiles()
            if not files:
                raise InputError(
                    f"sources.{self.name}: {self.pattern} holds no file that Spark reads: a folder"
                    " in it must be called COLUMN=VALUE, or set options:"
                    ' {recursiveFileLookup: "true"}'
                )
            yield from self._parquet(files) if kind == "parquet" else self._text(kind, files)

    def _parquet(self, files: list[str]) -> Iterator[Raw]:
        for layout, group in layouts(self.spark, files).items():
            schema = readable_schema(self.spark, layout, group[0])
            for rows, place in self._load(schema, group, files):
                yield Raw(typed(rows, layout), place)

    def _text(self, kind: str, files: list[str]) -> Iterator[Raw]:
        encoding = self.options.get("encoding") or self.options.get("charset") or "UTF-8"
        groups = list(first_lines(self.spark, files, encoding).values())
        header = kind == "csv" and self.options.get("header", "").lower() == "true"
        if groups and not header:
            groups = [[file for group in groups for file in group]]
        for group in groups:
            schema = None
            if self.source.schema:
                declared = self.spark.createDataFrame([], self.source.schema).schema
                schema = self._by_name(group[0], declared) if header else declared
            elif kind == "csv":
                schema = next(self._load(None, group, files)).rows.schema
            if schema and CORRUPT not in schema.names:  # Spark infers it for JSON by itself
                schema = schema.add(CORRUPT, "string")
            for rows, place in self._load(schema, group, files):
                yield Raw(_parsed(rows), place)

    def _by_name(self, file: str, declared: T.StructType) -> T.StructType:
        """Return the columns of a CSV file in the order of its header.

        Spark itself gives the declared names by position.
        """
        path = Entry(file, is_folder=False).address
        names = self.reader(header="true", inferschema="false").load(escaped(path)).columns
        types = {field.name: field.dataType for field in declared}
        return T.StructType([T.StructField(n, types.get(n, T.StringType())) for n in names])

    def _load(
        self, schema: T.StructType | None, group: list[str], files: list[str]
    ) -> Iterator[Raw]:
        """Yield the rows of some of the files; folders below a root may be partitions."""
        if len(group) == len(files):
            yield Raw(self.reader(schema).load(self.pattern), self.pattern)
            return
        addresses = [Entry(file, is_folder=False).address for file in group]
        for root in self.roots:
            base = root.address if root.is_folder else root.address.rpartition("/")[0]
            options = {} if "basepath" in self.options else {"basepath": base}
            if paths := [each for each in addresses if _is_below(path_of(each), root.path)]:
                rows = self.reader(schema, **options).load([escaped(path) for path in paths])
                more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
                yield Raw(rows, f"{path_of(paths[0])}{more}")


def _parsed(rows: DataFrame) -> DataFrame:
    """Have Spark parse all columns, not only those in use: a line is corrupt by any of them."""
    return rows.where(F.size(F.array(*[F.isnull(quoted(c)) for c in rows.columns])) > 0)


def _is_below(path: str, root: str) -> bool:
    return f"{path}/".startswith(root.rstrip("/") + "/")
