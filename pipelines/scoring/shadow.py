"""A shadow run: another version scores the same candidates, and nobody acts on it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

SHADOW = "shadow"

BEST = 10
"""Candidates of a user that a page would show: what the overlap looks at."""


def rankings_compared(scores: DataFrame, others: DataFrame, keys: list[str]) -> dict[str, float]:
    """How differently two versions rank the same candidates.

    Args:
        scores, others: published tables: keys, score and rank.
        keys: the user's column, then the item's.

    Returns:
        ``overlap``: of a user's best ``BEST``, the share that are among the other's best, mean over
        users. ``same_first``: share of users with the same best one. ``rank_correlation``:
        Spearman's, of the candidates that both tables hold, mean over users. ``score_change``: mean
        absolute difference.
    """
    theirs = others.select(*keys, F.col("score").alias("_score"), F.col("rank").alias("_rank"))
    both = scores.select(*keys, "score", "rank").join(theirs, keys, "left")
    best = (F.col("rank") <= BEST) & (F.col("_rank") <= BEST)
    first = (F.col("rank") == 1) & (F.col("_rank") == 1)
    users = both.groupBy(keys[0]).agg(
        F.count_if(best).alias("common"),
        F.least(F.count("*"), F.lit(BEST)).alias("best"),
        F.count_if(first).alias("first"),
        F.corr("rank", "_rank").alias("correlation"),
        F.sum(F.abs(F.col("score") - F.col("_score"))).alias("change"),
        F.count("_score").alias("rows"),
    )
    found = users.agg(
        F.avg(F.col("common") / F.col("best")).alias("overlap"),
        F.avg("first").alias("same_first"),
        F.avg(F.when(~F.isnan("correlation"), F.col("correlation"))).alias("rank_correlation"),
        (F.sum("change") / F.sum("rows")).alias("score_change"),
    ).first()
    assert found is not None
    return {name: float(value) for name, value in found.asDict().items() if value is not None}
