"""Parquet files as other tools write them. The files of one date may differ.

Footers say what Spark's own schema does not: times in nanoseconds, columns without a type, columns
that Spark cannot read, and files without rows.
"""

import base64
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from din_model.errors import InputError
from pipelines.hadoop import of_uri, reason

THREADS = 16
FIELD = re.compile(r"\n(?=  \S)")
TIME = re.compile(r"\btime\(\d\)")  # Spark 4.1 on converts the type, and then refuses to read it
NANOSECONDS = re.compile(r"  \w+ int64 (.+) \(TIMESTAMP\(NANOS,(true|false)\)\);")


@dataclass(frozen=True)
class Layout:
    """How the columns of a file are written; files of one layout are read together."""

    fields: tuple[str, ...]  # as Parquet prints them, sorted
    untyped: frozenset[str]  # columns that hold no value, whatever type they are written as


def layouts(spark: SparkSession, files: Sequence[str]) -> dict[Layout, list[str]]:
    """Group files by layout. A layout without rows is left out: its types mean nothing.

    Args:
        spark: the session.
        files: encoded URIs.

    Raises:
        InputError: a file is not Parquet.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda file: _footer(spark, file), files))
    groups: dict[Layout, list[str]] = {}
    rows: dict[Layout, int] = {}
    for file, (layout, count) in zip(files, found, strict=True):
        groups.setdefault(layout, []).append(file)
        rows[layout] = rows.get(layout, 0) + count
    return {layout: group for layout, group in groups.items() if rows[layout]}


def readable_schema(spark: SparkSession, layout: Layout, file: str) -> T.StructType:
    """Return the columns that Spark can read; times in nanoseconds are bigint.

    Spark's own inference fails if it cannot read some column, even one that is not needed.

    Args:
        spark: the session.
        layout: of the file.
        file: encoded URI of one file of the layout.
    """
    jvm: Any = spark._jvm  # noqa: SLF001 (PySpark has no public way)
    parquet = jvm.org.apache.spark.sql.execution.datasources.parquet
    converter = parquet.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())  # noqa: SLF001 (the same)
    columns: list[T.StructField] = []
    for field in _metadata(spark, file)[0].getSchema().getFields():
        alone = jvm.org.apache.parquet.schema.MessageType("one", jvm.java.util.List.of(field))
        try:
            converted = converter.convert(alone).json()
        except (PySparkException, Py4JError):
            continue
        columns += T.StructType.fromJson(json.loads(converted)).fields
    return T.StructType(
        [
            column
            for column in columns
            if column.name not in layout.untyped and not TIME.search(column.dataType.simpleString())
        ]
    )


def typed(rows: DataFrame, layout: Layout) -> DataFrame:
    """Turn nanoseconds into timestamps of microseconds, and add the untyped columns as null."""
    times = [match for f in layout.fields if (match := NANOSECONDS.fullmatch(f))]
    columns = {match[1]: _timestamp(match[1], utc=match[2] == "true") for match in times}
    columns |= {name: F.lit(None) for name in sorted(layout.untyped)}
    return rows.withColumns(columns) if columns else rows


def _timestamp(name: str, utc: bool) -> Column:
    quoted = "`" + name.replace("`", "``") + "`"
    microseconds = f"CAST(floor({quoted} / 1000BD) AS BIGINT)"
    if utc:
        return F.expr(f"timestamp_micros({microseconds})")
    # A time without a zone is a time of day, as in Spark's own timestamp_ntz.
    seconds = f"CAST({microseconds} / 1000000BD AS DECIMAL(18, 6))"
    return F.expr(f"TIMESTAMP_NTZ'1970-01-01 00:00:00' + make_dt_interval(0, 0, 0, {seconds})")


def _footer(spark: SparkSession, file: str) -> tuple[Layout, int]:
    metadata, rows = _metadata(spark, file)
    printed = metadata.getSchema().toString()
    fields = FIELD.split(printed.removesuffix("\n}\n"))[1:]
    arrow = metadata.getKeyValueMetaData().get("ARROW:schema")
    try:
        untyped = _untyped(arrow) if arrow else []
    except (ValueError, OSError, pa.ArrowException) as error:
        raise _unreadable(file, f"ARROW:schema of its footer: {error}") from None
    return Layout(tuple(sorted(fields)), frozenset(untyped)), rows


def _untyped(arrow: str) -> list[str]:
    """Return the columns to which pyarrow gave no type, because they hold no value."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(arrow)))
    return [
        f.name for f in schema if "null" in (str(f.type), str(getattr(f.type, "value_type", "")))
    ]


def _metadata(spark: SparkSession, file: str) -> tuple[Any, int]:
    """Return Java's metadata of a file, and the number of its rows."""
    hadoop = spark._jvm.org.apache.parquet.hadoop  # type: ignore[union-attr]  # noqa: SLF001 (PySpark has no public way)
    _, path = of_uri(spark, file)
    try:
        source = hadoop.util.HadoopInputFile.fromPath(path, spark._jsc.hadoopConfiguration())  # noqa: SLF001 (the same)
        reader = hadoop.ParquetFileReader.open(source)
        try:
            return reader.getFileMetaData(), reader.getRecordCount()
        finally:
            reader.close()
    except (PySparkException, Py4JError) as error:
        raise _unreadable(path.toString(), reason(error)) from None


def _unreadable(file: str, why: str) -> InputError:
    return InputError(
        f"{file}: cannot be read as Parquet ({why}): replace the file, or set the source's format"
    )
