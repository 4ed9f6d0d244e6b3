"""What a night's scores are measured by before anybody sees them, and what holds them back.

The written table is read once; its numbers stand in its manifest, so that the next night can tell
what has moved. A breach raises: the table of the day before stays what it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.evaluation.calibration import Calibration, buckets_of
from din_model.evaluation.drift import BINS, EDGES, psi
from pipelines.store.store import Manifest

BINS_A_UNIT = BINS / float(EDGES[-1] - EDGES[0])


class Breach(InputError):
    """A table whose numbers are out of their limits; ``held`` is its manifest, never published."""

    held: Manifest


@dataclass(frozen=True)
class GuardsConfig(Section):
    """Limits of a night's table. One that is null is measured, and holds nothing back.

    Attributes:
        min_coverage: least share of the candidates that are good, and so are scored.
        max_drift: population stability index of the scores against the last published date's.
        max_drift_from_validation: the same against the scores of the rows that judged the model.
        max_calibration: of the last night's scores, what they expected over the clicks that came,
            or its inverse.
        min_clicks: calibration is asked for only where so many came.
        max_unknown_users: share of rows whose user's id nobody knows.
        max_unknown_items: share of rows whose item's id nobody knows.
        max_without_history: share of rows without a behaviour.
    """

    min_coverage: float | None = 0.99
    max_drift: float | None = 0.5
    max_drift_from_validation: float | None = None
    max_calibration: float | None = 2.0
    min_clicks: int = 100
    max_unknown_users: float | None = 0.9
    max_unknown_items: float | None = 0.5
    max_without_history: float | None = 0.9

    def of_numbers(self) -> Iterator[tuple[str, str, float | None]]:
        """Number, ``min`` or ``max``, and limit; calibration, which is a ratio of two, apart."""
        for key, limit in vars(self).items():
            side, _, name = key.partition("_")
            if name not in ("calibration", "clicks"):
                yield name, side, limit


def bin_of(score: Column) -> Column:
    """The bin of a score in din_model.evaluation.drift's histograms."""
    place = F.floor((F.ln(score) - F.log1p(-score) - float(EDGES[0])) * BINS_A_UNIT)
    # ln(0) is null in Spark, and such scores belong to the ends.
    place = F.when(score <= 0, 0).when(score >= 1, BINS - 1).otherwise(place)
    return F.least(F.greatest(place, F.lit(0)), F.lit(BINS - 1)).cast("int")


def measured(scores: DataFrame) -> dict[str, Any]:
    """Mean score, shares, and the histogram of the scores (see din_model.evaluation.drift), in one pass.

    Raises:
        InputError: a score is no probability.
    """
    p = F.col("score")
    shares = {
        "without_history": F.col("history_length") == 0,
        "unknown_users": F.col("unknown_user"),
        "unknown_items": F.col("unknown_item"),
    }
    sums = [F.sum(column.cast("long")).alias(name) for name, column in shares.items()]
    wrong = F.sum((~p.between(0.0, 1.0) | F.isnan(p)).cast("long")).alias("wrong")
    bins = scores.groupBy(bin_of(p).alias("bin")).agg(
        F.count("*").alias("rows"), F.sum("score").alias("score"), wrong, *sums
    )
    counts, total = (
        np.zeros(BINS, np.int64),
        dict.fromkeys(("rows", "score", "wrong", *shares), 0.0),
    )
    for row in bins.collect():
        counts[row["bin"] or 0] += row["rows"]
        total = {name: value + row[name] for name, value in total.items()}
    if total["wrong"]:
        raise InputError(
            f"{total['wrong']:,.0f} scores are no probability: the model is broken; nothing is"
            " published"
        )
    rows = max(total["rows"], 1)
    return {name: total[name] / rows for name in shares} | {
        "mean_score": total["score"] / rows,
        "histogram": counts.tolist(),
    }


def compared(
    numbers: dict[str, Any], before: dict[str, Any] | None, validation: list[int]
) -> dict[str, float]:
    """How far the scores have moved: since ``before`` (its numbers), and from validation's."""
    mine, found = np.array(numbers["histogram"]), {}
    if before and "histogram" in before:
        found["drift"] = psi(mine, np.array(before["histogram"]))
    if validation:
        found["drift_from_validation"] = psi(mine, np.array(validation))
    return found


def calibration(
    scores: DataFrame, shown: DataFrame, keys: list[str]
) -> tuple[dict[str, float], list[Calibration]]:
    """What published scores expected of the impressions that followed, and the clicks that came.

    Args:
        scores: published for a date, before it.
        shown: that date's impressions: ``keys`` (user and item, as the scores have them), label,
            and weight where they are a sample.

    Returns:
        ``shown``, ``expected`` and ``clicks``, and the same by tenths of the scores.
    """
    weight = F.col("weight") if "weight" in shown.columns else F.lit(1.0)
    both = shown.join(scores.select(*keys, "score"), keys)
    sums = both.groupBy(bin_of(F.col("score")).alias("bin")).agg(
        F.sum(weight).alias("shown"),
        F.sum(F.col("score") * weight).alias("expected"),
        F.sum(F.col("label") * weight).alias("clicks"),
    )
    bins = np.zeros((3, BINS))
    for place, *values in sums.collect():
        bins[:, place] = values
    bucket = buckets_of(bins[0])
    tenths = zip(*[np.bincount(bucket, each) for each in bins], strict=True)
    curve = [Calibration(int(n), float(e / n), float(c / n)) for n, e, c in tenths if n]
    totals = zip(("shown", "expected", "clicks"), bins.sum(1).tolist(), strict=True)
    return dict(totals), curve


def check(numbers: dict[str, Any], limits: GuardsConfig, date: str) -> None:
    """Hold back a table whose numbers are out of their limits.

    Args:
        numbers: of ``measured`` and ``compared``, ``coverage`` and, with the last night's clicks,
            ``expected`` and ``clicks``; what is not there is not asked.

    Raises:
        Breach: one is; with the number, the limit and the way out.
    """
    breaches = []
    for name, side, limit in limits.of_numbers():
        value = numbers.get(name)
        if limit is None or value is None:
            continue
        if value < limit if side == "min" else value > limit:
            place = "below" if side == "min" else "above"
            breaches.append(f"{name} {value:.4f} is {place} score.guards.{side}_{name} {limit}")
    clicks, expected = numbers.get("clicks", 0), numbers.get("expected", 0)
    if limits.max_calibration and clicks >= limits.min_clicks:
        ratio = expected / clicks
        if not 1 / limits.max_calibration <= ratio <= limits.max_calibration:
            breaches.append(
                f"calibration of the last scores, {expected:.0f} clicks expected over {clicks:.0f}"
                f" = {ratio:.3f}, is beyond score.guards.max_calibration {limits.max_calibration}"
            )
    if breaches:
        raise Breach(
            f"scores of {date} are held back, what was published stays: {'; '.join(breaches)};"
            " look at the run in MLflow, then mend the cause, roll back, or raise the limit"
        )
