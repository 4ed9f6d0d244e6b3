"""The numbers of a day's logs and examples, and the limits that decide whether they are published.

Broken joins and half-written logs rarely raise errors, but they change numbers. Every number has a
flat name: ``rows``, ``label_rate``, ``repeated``, ``first_hour``, ``last_hour``,
``unmatched_clicks`` (their share, if clicks are a log of their own), ``null.FEATURE``,
``unknown.FEATURE``, ``history.KIND.p10`` (p50, p90, empty), ``vocabulary.NAME.new``, ``.size``.
"""

import difflib
import math
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.errors import InputError
from din_model.features import UNKNOWN, FeatureSpec
from din_model.ranges import Bounds, Factor
from pipelines.ingest.attribution import ALONE, LATE, REPEATED
from pipelines.ingest.sources import start_of
from pipelines.store.manifest import Manifest

Numbers = dict[str, float]

LIMITS: dict[str, tuple[float | None, float | None]] = {"unmatched_clicks": (None, 0.5)}
"""Limits that hold unless the configuration sets them. Keys that do not match give no error."""

HOUR = 3600 * 10**6


@dataclass(frozen=True)
class QualityConfig(Section):
    """Limits that stop a day from being published; examples/data_quality.py lists the numbers.

    Attributes:
        limits: number -> [least, most], null for no limit: ``label_rate: [0.01, 0.5]``. Unless set
            here, ``unmatched_clicks``, the share of clicks without an impression, is at most 0.5.
        change: number -> factor by which it may differ, up or down, from the last published day;
            replaces both defaults.
    """

    limits: dict[str, Bounds] = field(default_factory=dict)
    change: dict[str, Factor] = field(default_factory=lambda: {"rows": 10.0, "label_rate": 10.0})


def of_impressions(
    marked: DataFrame, spec: FeatureSpec, day: date
) -> tuple[dict[str, int], Numbers]:
    """Return rows by reason, and the numbers of the good ones, in one aggregation.

    Args:
        marked: typed impressions of the day, not yet encoded.
        spec: names the features.
        day: the date.
    """
    start = start_of(day, spec.time_zone)
    missing = {
        f.name: F.col(f.name).isNull() | (F.size(f.name) == 0 if f.is_list else F.lit(False))
        for f in spec.features
    }
    by_reason_rows = marked.groupBy(F.coalesce("reason", F.lit("good")).alias("reason")).agg(
        F.count(F.lit(1)).alias("rows"),
        F.avg("label").alias("label_rate"),
        ((F.min("time") - start) / HOUR).alias("first_hour"),
        ((F.max("time") - start) / HOUR).alias("last_hour"),
        *[F.avg(is_null.cast("int")).alias(f"null.{name}") for name, is_null in missing.items()],
    )
    by_reason = {row["reason"]: row.asDict() for row in by_reason_rows.collect()}
    reasons = {reason: row["rows"] for reason, row in sorted(by_reason.items())}
    numbers = dict(by_reason.get("good", {}))
    numbers.pop("reason", None)
    repeated = reasons.get("repeated impression", 0)
    return reasons, numbers | {"repeated": repeated / max(1, sum(reasons.values()))}


def of_clicks(reasons: dict[str, int] | None) -> Numbers:
    """Return the share of clicks that belong to no impression, if there is a log of clicks."""
    if reasons is None:
        return {}
    clicks = {why: reasons.get(why, 0) for why in ("good", REPEATED, LATE, ALONE)}
    return {"unmatched_clicks": clicks[ALONE] / max(1, sum(clicks.values()))}


def of_examples(examples: DataFrame, spec: FeatureSpec, first_new: dict[str, int]) -> Numbers:
    """Measure written examples in one aggregation.

    Args:
        examples: encoded rows with the lengths of their histories.
        spec: names features and histories.
        first_new: vocabulary -> first id assigned that day. These ids, too, are unknown to a model
            trained until the day before.
    """
    columns = []
    for f in spec.features:
        if f.is_value:
            columns.append(F.avg(F.isnan(f.name).cast("int")).alias(f"unknown.{f.name}"))
        elif not f.is_list:
            unknown = (F.col(f.name) == UNKNOWN) | (
                F.col(f.name) >= first_new.get(f.vocabulary, 2**31 - 1)
            )
            columns.append(F.avg(unknown.cast("int")).alias(f"unknown.{f.name}"))
    for history in spec.histories:
        length, name = F.col(history.column("length")), f"history.{history.kind}"
        columns.append(F.avg((length == 0).cast("int")).alias(f"{name}.empty"))
        for percent in (10, 50, 90):
            columns.append(F.percentile(length, F.lit(percent / 100)).alias(f"{name}.p{percent}"))
    row = examples.agg(*columns).first()
    assert row is not None
    return row.asDict()


def validate(
    numbers: Numbers, config: QualityConfig, before: Manifest | None, day: date, complete: bool
) -> None:
    """Compare the numbers with the limits and with those of the last published day.

    Args:
        numbers: by name.
        config: the limits.
        before: the last published examples before ``day``.
        day: the date.
        complete: these are all numbers, so a limit on another name is an error.

    Raises:
        InputError: a number is out of bounds, or limits are set for a number that is not measured.
    """
    for section in ("limits", "change"):
        unknown = [name for name in getattr(config, section) if name not in numbers]
        if complete and unknown:
            near = difflib.get_close_matches(unknown[0], list(numbers), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(numbers)}"
            raise InputError(f"build.quality.{section}: no number {unknown[0]!r}; {hint}")
    for name, (least, most) in (LIMITS | config.limits).items():
        value = numbers.get(name)
        if value is not None and not _between(value, least, most):
            raise InputError(
                f"quality of {day}: {name} is {value:.6g}, outside build.quality.limits.{name}"
                f" [{_bound(least)}, {_bound(most)}]: correct the logs or the limit; nothing is"
                " published"
            )
    earlier = before.facts.get("quality", {}) if before else {}
    for name, factor in config.change.items():
        new, old = numbers.get(name), earlier.get(name)
        if before and new is not None and old is not None and _factor(new, old) > factor:
            raise InputError(
                f"quality of {day}: {name} is {new:.6g}, but was {old:.6g} on {before.date}, more"
                f" than build.quality.change.{name} {factor:g} allows: correct the logs or the"
                " limit; nothing is published"
            )


def _between(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _bound(bound: float | None) -> str:
    return "-" if bound is None else f"{bound:g}"


def _factor(new: float, old: float) -> float:
    """Return the factor between two numbers; infinite if only one of them is 0."""
    low, high = sorted((abs(new), abs(old)))
    return 1.0 if high == 0 else math.inf if low == 0 else high / low
