"""What Spark makes of formats, options, queries and Parquet, asked of a Connect server."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from pipelines.access.files import Entry, escaped
from pipelines.access.fsspec_files import parquet_metadata

NO_SCHEMA = "unknown int"
"""Any schema keeps Spark from inferring one."""

NOWHERE = "/no-such-folder-5d1b9c0e/x"
"""A path whose files Spark does not begin to list."""

FIELDS = "spark.sql.debug.maxToStringFields"
"""How many fields of an operator a printed plan shows."""

PARSED = re.compile(r"== Parsed Logical Plan ==\n(.*)\n== Analyzed Logical Plan ==", re.DOTALL)
"""To the last such line: a text in a query may hold one, and must hide nothing."""

OPERATOR = re.compile(r"^[ :+-]*'?(\w+)", re.MULTILINE)
FUNCTION = re.compile(r"(\w+)\(")
PRINTED = {"CTE": "UnresolvedWith"}
"""Operators that are printed under another name than that of their class."""

NAMED_LATER = "expressionwithunresolvedidentifier"


@dataclass(frozen=True)
class ConnectAnalysis:
    """Spark's own analysis on Spark Connect; see ``JavaAnalysis``."""

    spark: SparkSession

    def send_archive(self, archive: Path) -> None:
        """Have every executor unpack an archive, under the archive's name without suffix."""
        self.spark.addArtifacts(f"{archive}#{archive.stem}", archive=True)

    def knows_format(self, name: str) -> bool:
        """Return whether Spark has a data source of that name."""
        try:
            _ = self.spark.read.format(name).schema(NO_SCHEMA).load(NOWHERE).schema
        except PySparkException as error:  # any other one is of the missing path or option
            return "DATA_SOURCE_NOT" not in str(error)
        return True

    def options_of(self, _: str) -> list[str]:
        """Return nothing: a server does not list the options of a format."""
        return []

    def parts_of_query(self, query: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts of a query, without running any of it.

        EXPLAIN prints what Spark's parser makes of a statement, and runs nothing. Text in a query
        may look like a part of it, so more may be yielded than there is.
        """
        shown = str(self.spark.conf.get(FIELDS))
        self.spark.conf.set(FIELDS, str(2**31 - 1))
        try:
            explained = self.spark.sql(f"EXPLAIN EXTENDED\n{query}").collect()[0][0]
        finally:
            self.spark.conf.set(FIELDS, shown)
        match = PARSED.search(explained)
        plan = match[1] if match else explained
        for name in OPERATOR.findall(plan):
            yield PRINTED.get(name, name), True
        for name in map(str.lower, FUNCTION.findall(plan)):
            yield "identifier" if name == NAMED_LATER else name, False

    def parquet_columns(self, uri: str) -> list[T.StructField]:
        """Return the columns of a Parquet file that Spark can read."""
        address = Entry(uri, is_folder=False).address
        reader = self.spark.read.option("recursiveFileLookup", "true")  # no columns of its folders
        try:
            return reader.parquet(escaped(address)).schema.fields
        except PySparkException:  # some column cannot be read
            schema = parquet_metadata(uri).schema.to_arrow_schema()
        columns = []
        for field in schema:
            try:
                columns.append(T.StructField(field.name, _spark_type(field.type)))
            except PySparkException:
                continue
        return columns


def _spark_type(kind: pa.DataType) -> T.DataType:
    if pa.types.is_dictionary(kind):
        return _spark_type(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return T.LongType()  # spark.sql.legacy.parquet.nanosAsLong
    return from_arrow_type(kind, prefer_timestamp_ntz=True)
