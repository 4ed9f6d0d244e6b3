"""A shadow version scores the same candidates; its table is only compared."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.columns import column

BEST = 10
"""Candidates per user that a page would show; the overlap looks at these."""


def compare_rankings(scores: DataFrame, others: DataFrame, keys: list[str]) -> dict[str, float]:
    """Return how differently two versions rank the same candidates.

    Args:
        scores: published table: keys, score and rank.
        others: the shadow's table.
        keys: column of the user, then of the item.

    Returns:
        ``overlap``: share of a user's best ``BEST`` that are among the other's best, mean over
            users. ``same_first``: share of users with the same best candidate.
            ``rank_correlation``: Spearman's, over the candidates in both tables, mean over users.
            ``score_change``: mean absolute difference.
    """
    named = [column(key).alias(f"_key_{i}") for i, key in enumerate(keys)]
    shadow = others.select(*named, F.col("score").alias("_score"), F.col("rank").alias("_rank"))
    both = scores.select(*named, "score", "rank").join(shadow, ["_key_0", "_key_1"], "left")
    best = (F.col("rank") <= BEST) & (F.col("_rank") <= BEST)
    first = (F.col("rank") == 1) & (F.col("_rank") == 1)
    users = both.groupBy("_key_0").agg(
        F.count_if(best).alias("common"),
        F.least(F.count("*"), F.lit(BEST)).alias("best"),
        F.count_if(first).alias("first"),
        F.corr("rank", "_rank").alias("correlation"),
        F.sum(F.abs(F.col("score") - F.col("_score"))).alias("change"),
        F.count("_score").alias("rows"),
    )
    differences = users.agg(
        F.avg(F.col("common") / F.col("best")).alias("overlap"),
        F.avg("first").alias("same_first"),
        F.avg(F.when(~F.isnan("correlation"), F.col("correlation"))).alias("rank_correlation"),
        (F.sum("change") / F.sum("rows")).alias("score_change"),
    ).first()
    assert differences is not None
    return {name: float(value) for name, value in differences.asDict().items() if value is not None}
