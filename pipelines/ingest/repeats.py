"""Repeats: rows of one key, of which one is kept, or none if they contradict each other."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from pipelines.ingest.casting import with_reason


def mark_repeats(
    rows: DataFrame, keys: Sequence[str], what: str, conflicts: bool = False
) -> DataFrame:
    """Mark all but one of the good rows with equal keys; the choice is deterministic.

    Args:
        rows: typed rows with ``reason`` and ``raw``.
        keys: columns that identify a row.
        what: a row is called, for the reason.
        conflicts: mark all good rows of a key that has both labels: nothing tells which is right.
    """
    others = [c for c in rows.columns if c not in (*keys, "reason", "raw")]
    of_key = Window.partitionBy(*keys).orderBy(F.col("reason").isNotNull(), *others)
    why = F.when(F.row_number().over(of_key) > 1, f"repeated {what}")
    if conflicts:
        why = F.when(_labels_differ(of_key), "one key with different labels").otherwise(why)
    return with_reason(rows, why)


def _labels_differ(of_key: WindowSpec) -> Column:
    """Return whether good rows have both labels, in the order of another function: one sort."""
    every = of_key.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    label = F.when(F.col("reason").isNull(), F.col("label"))
    return F.min(label).over(every) < F.max(label).over(every)
