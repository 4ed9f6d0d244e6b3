"""Parquet files as other tools write them. The files of one date may differ.

Footers say what Spark's own schema does not: times in nanoseconds, columns without a type, columns
that Spark cannot read, and files without rows.
"""

import base64
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.access.choice import session_analysis, session_files
from pipelines.access.files import Entry, unreadable_parquet

THREADS = 16
TIME = re.compile(r"\btime\(\d\)")  # Spark 4.1 on converts the type, and then refuses to read it


@dataclass(frozen=True)
class Layout:
    """How the columns of a file are written; files of one layout are read together."""

    fields: tuple[str, ...]  # as they are printed, sorted
    nanoseconds: tuple[tuple[str, bool], ...]  # see access.files.Footer
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
        found = list(pool.map(lambda file: _layout(spark, file), files))
    groups: dict[Layout, list[str]] = {}
    rows: dict[Layout, int] = {}
    for file, (layout, count) in zip(files, found, strict=True):
        groups.setdefault(layout, []).append(file)
        rows[layout] = rows.get(layout, 0) + count
    return {layout: group for layout, group in groups.items() if rows[layout]}


def readable_schema(spark: SparkSession, layout: Layout, file: str) -> T.StructType:
    """Return the columns that Spark can read; times in nanoseconds are bigint.

    Args:
        spark: the session.
        layout: of the file.
        file: encoded URI of one file of the layout.
    """
    return T.StructType(
        [
            column
            for column in session_analysis(spark).parquet_columns(file)
            if column.name not in layout.untyped and not TIME.search(column.dataType.simpleString())
        ]
    )


def typed(rows: DataFrame, layout: Layout) -> DataFrame:
    """Turn nanoseconds into timestamps of microseconds, and add the untyped columns as null."""
    columns = {name: _timestamp(name, utc) for name, utc in layout.nanoseconds}
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


def _layout(spark: SparkSession, file: str) -> tuple[Layout, int]:
    footer = session_files(spark).footer(file)
    try:
        untyped = _untyped(footer.arrow) if footer.arrow else []
    except (ValueError, OSError, pa.ArrowException) as error:
        address = Entry(file, is_folder=False).address
        raise unreadable_parquet(address, f"ARROW:schema of its footer: {error}") from None
    fields = tuple(sorted(footer.fields))
    return Layout(fields, footer.nanoseconds, frozenset(untyped)), footer.rows


def _untyped(arrow: str) -> list[str]:
    """Return the columns to which pyarrow gave no type, because they hold no value."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(arrow)))
    return [
        f.name for f in schema if "null" in (str(f.type), str(getattr(f.type, "value_type", "")))
    ]
