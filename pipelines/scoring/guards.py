"""Guards: the numbers of a table of scores, and the limits that hold it back.

The written table is read once. Its numbers are stored in its manifest, so the next night can
compare. A breach raises an error, and the published table stays.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.evaluation.calibration import Calibration, buckets_of
from din_model.evaluation.drift import BINS, EDGES, psi
from din_model.ranges import Factor, NotNegative, Share, Size
from pipelines.store.manifest import Manifest

BINS_A_UNIT = BINS / float(EDGES[-1] - EDGES[0])


class Breach(InputError):  # noqa: N818 (the term of the runbook and the report)
    """A table whose numbers are outside their limits; ``held`` is its unpublished manifest."""

    held: Manifest

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        """``names`` are the numbers that are outside."""
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True)
class GuardsConfig(Section):
    """Limits on a night's table. A number without a limit is only measured.

    Attributes:
        min_coverage: least share of the candidates that are good and scored.
        max_drift: population stability index of the scores against those of the last published
            date, if the same version scored both; a new version is judged by the gate.
        max_drift_from_validation: the same against the scores on the evaluation rows of the model.
        max_calibration: expected clicks of the last night's scores over the actual clicks, or its
            inverse.
        min_clicks: calibration is checked only with at least this many clicks.
        max_unknown_users: share of rows whose user is unknown to the model.
        max_unknown_items: share of rows whose item is unknown to the model.
        max_without_history: share of rows without a behaviour.
    """

    min_coverage: Share | None = 0.99
    max_drift: NotNegative | None = 0.5
    max_drift_from_validation: NotNegative | None = None
    max_calibration: Factor | None = 2.0
    min_clicks: Size = 100
    max_unknown_users: Share | None = 0.9
    max_unknown_items: Share | None = 0.5
    max_without_history: Share | None = 0.9

    def of_numbers(self) -> Iterator[tuple[str, str, float | None]]:
        """Yield number, ``min`` or ``max``, and limit of all but calibration, which is a ratio."""
        for key, limit in vars(self).items():
            side, _, name = key.partition("_")
            if name not in ("calibration", "clicks"):
                yield name, side, limit


def bin_of(score: Column) -> Column:
    """Return the bin of a score in the histograms of din_model.evaluation.drift."""
    place = F.floor((F.ln(score) - F.log1p(-score) - float(EDGES[0])) * BINS_A_UNIT)
    # ln(0) is null in Spark; such scores fall into the end bins.
    place = F.when(score <= 0, 0).when(score >= 1, BINS - 1).otherwise(place)
    return F.least(F.greatest(place, F.lit(0)), F.lit(BINS - 1)).cast("int")


def measure(scores: DataFrame) -> dict[str, Any]:
    """Return mean score, shares, and the histogram of the scores (evaluation.drift), in one pass.

    Raises:
        InputError: a score is not a probability.
    """
    p = F.col("score")
    shares = {
        "without_history": F.col("history_length") == 0,
        "unknown_users": F.col("unknown_user"),
        "unknown_items": F.col("unknown_item"),
    }
    sums = [F.sum(column.cast("long")).alias(name) for name, column in shares.items()]
    invalid = F.sum((~p.between(0.0, 1.0) | F.isnan(p)).cast("long")).alias("wrong")
    bins = scores.groupBy(bin_of(p).alias("bin")).agg(
        F.count("*").alias("rows"), F.sum("score").alias("score"), invalid, *sums
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
            f"{total['wrong']:,.0f} scores are not probabilities, nothing is published: train again"
            " or roll back"
        )
    rows = max(total["rows"], 1)
    return {name: total[name] / rows for name in shares} | {
        "mean_score": total["score"] / rows,
        "histogram": counts.tolist(),
    }


def compare(
    numbers: dict[str, Any], before: dict[str, Any] | None, validation: list[int]
) -> dict[str, float]:
    """Return the drift since ``before`` (the numbers of a table) and from the evaluation rows."""
    histogram, drifts = np.array(numbers["histogram"]), {}
    if before and "histogram" in before:
        drifts["drift"] = psi(histogram, np.array(before["histogram"]))
    if validation:
        drifts["drift_from_validation"] = psi(histogram, np.array(validation))
    return drifts


def calibration(
    scores: DataFrame, shown: DataFrame, keys: list[str]
) -> tuple[dict[str, float], list[Calibration]]:
    """Compare the expected clicks of published scores with the clicks that followed.

    Args:
        scores: published for a date, before it.
        shown: impressions of that date: ``keys`` (user and item, as in the scores), label, and
            weight if they are a sample.
        keys: names of user and item.

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


def change(now: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return in words how the facts of two tables of one version differ, to explain a drift."""
    if before is None or "mean_score" not in before:
        return ""
    return (
        f" (version {now['version']} scored both; the mean score is {now['mean_score']:.3f}, was"
        f" {before['mean_score']:.3f})"
    )


def check(numbers: dict[str, Any], limits: GuardsConfig, date: str, changed: str = "") -> None:
    """Hold back a table whose numbers are outside their limits.

    Args:
        numbers: from ``measure`` and ``compare``, ``coverage`` and, with the last night's clicks,
            ``expected`` and ``clicks``; missing numbers are not checked.
        limits: the limits.
        date: of the table.
        changed: see ``change``.

    Raises:
        Breach: a number is outside; the message names number, limit and what to do.
    """
    breaches: dict[str, str] = {}
    for name, side, limit in limits.of_numbers():
        value = numbers.get(name)
        if limit is None or value is None:
            continue
        if value < limit if side == "min" else value > limit:
            relation = "below" if side == "min" else "above"
            breaches[name] = (
                f"{name} {value:.4f} is {relation} score.guards.{side}_{name} {limit}"
                + changed * (name == "drift")
            )
    clicks, expected = numbers.get("clicks", 0), numbers.get("expected", 0)
    if limits.max_calibration and clicks >= limits.min_clicks:
        ratio = expected / clicks
        if not 1 / limits.max_calibration <= ratio <= limits.max_calibration:
            breaches["calibration"] = (
                f"calibration of the last scores, {expected:.0f} clicks expected over {clicks:.0f}"
                f" = {ratio:.3f}, is beyond score.guards.max_calibration {limits.max_calibration}"
            )
    if breaches:
        raise Breach(
            f"scores of {date} are held back, the published table stays:"
            f" {'; '.join(breaches.values())}: look at the report, then fix the cause, roll back,"
            " or raise the limit",
            breaches,
        )
