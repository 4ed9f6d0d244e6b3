"""Repeats: rows of one key, of which one is kept, or none if they contradict each other."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.ingest.casting import with_reason


def mark_repeats(rows: DataFrame, keys: Sequence[str], what: str) -> DataFrame:
    """Mark all but one of the good rows with equal keys; the choice is deterministic."""
    others = [c for c in rows.columns if c not in (*keys, "reason", "raw")]
    window = Window.partitionBy(*keys).orderBy(F.col("reason").isNotNull(), *others)
    return with_reason(rows, F.when(F.row_number().over(window) > 1, f"repeated {what}"))


def mark_conflicts(rows: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Mark all good rows of a key that has both labels: nothing tells which one is right."""
    label = F.when(F.col("reason").isNull(), F.col("label"))
    of_key = Window.partitionBy(*keys)
    differ = F.min(label).over(of_key) < F.max(label).over(of_key)
    return with_reason(rows, F.when(differ, "one key with different labels"))
