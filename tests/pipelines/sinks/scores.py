"""Scores to deliver, with awkward texts and nulls among them."""

from datetime import date
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession

DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)

COLUMNS = (
    "user_id long, item_id string, score double, rank int, history_length int,"
    " unknown_item boolean, explanations array<struct<kind string, item string, weight double>>,"
    " model string, model_version int, date string"
)

BROKEN = "if(rank > 5, raise_error('disk'), 'x')"


def plain(day: date, count: int, version: int = 1) -> list[dict[str, Any]]:
    """Scores of a day, with awkward texts and nothings among them."""
    why = [
        {"kind": "clicks", "item": 'a "quoted" \\ one', "weight": 0.1},
        {"kind": "clicks", "item": None, "weight": 1e-9},
    ]
    return [
        {
            "user_id": n, "item_id": f"{n}\t\n\\N,'\"ü\\.", "score": 0.1 * n, "rank": n + 1,
            "history_length": n % 3, "unknown_item": n % 2 == 0,
            "explanations": [None, [], why][n % 3],
            "model": "din", "model_version": version, "date": str(day),
        }
        for n in range(count)
    ]  # fmt: skip


def scores(spark: SparkSession, day: date, count: int, version: int = 1) -> DataFrame:
    """The same as a frame of two partitions."""
    rows = [tuple(row.values()) for row in plain(day, count, version)]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), COLUMNS)


def sorted_rows(frame: DataFrame) -> list[dict[str, Any]]:
    rows = [row.asDict(recursive=True) for row in frame.collect()]
    return sorted(rows, key=lambda row: row["user_id"])


def select(connection: psycopg.Connection, text: str) -> list[tuple[Any, ...]]:
    return connection.execute(text).fetchall()  # type: ignore[arg-type]


def tables(reader: psycopg.Connection) -> list[str]:
    found = select(reader, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return sorted(name for (name,) in found)
