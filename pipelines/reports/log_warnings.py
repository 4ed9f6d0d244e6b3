"""Warnings on a date's logs: what often goes wrong with a log of that shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pandas as pd

from din_model.features import FeatureSpec
from pipelines.examples.data_quality import Numbers
from pipelines.ingest.outcomes import telling
from pipelines.ingest.quarantine import UNBROKEN

MOSTLY = 0.5
"""Share from which something is worth a warning."""

FEW_STEPS = 30
"""Training steps of a day below which an epoch teaches little."""


@dataclass(frozen=True)
class CheckConfig:
    """The settings of other stages that warnings depend on.

    Attributes:
        batch_size: rows per training step.
        min_users: see training.gate.NightlyConfig.
        max_broken: share of broken rows above which a build stops.
        negatives: whether unclicked rows are sampled.
    """

    batch_size: int
    min_users: int
    max_broken: float
    negatives: bool = False


def on_rows(reasons: Mapping[str, int], config: CheckConfig, day: date) -> list[str]:
    """Return warnings on rows that are missing or broken; ``reasons``: rows by reason."""
    total = sum(reasons.values())
    broken = sum(rows for why, rows in reasons.items() if why not in UNBROKEN)
    if total == 0:
        return [f"no impressions on {day}: look at sources.impressions and the date"]
    if broken > config.max_broken * total:
        return [
            f"{broken / total:.1%} of the rows are broken, build.max_broken is"
            f" {config.max_broken:.1%}: correct the types, or select good rows in the query"
        ]
    return []


def on_columns(numbers: Numbers, distinct: Mapping[str, int], spec: FeatureSpec) -> list[str]:
    """Return warnings on columns.

    Args:
        numbers: of the good rows; empty if there are none.
        distinct: feature -> its number of distinct values.
        spec: names the features.
    """
    warnings = []
    for f in spec.features if numbers.get("rows") else ():
        share = numbers[f"null.{f.name}"]
        if share >= MOSTLY:
            warnings.append(f"{share:.0%} of {f.log_name} are missing: check its type or its table")
        elif distinct[f.name] == 1 and f.name not in (spec.user, spec.item):
            warnings.append(f"{f.log_name} has one value only: it tells the model nothing")
    if not spec.key:
        warnings.append("features.key is not set: repeats of an impression go unseen")
    return warnings


def on_outcomes(sample: pd.DataFrame, spec: FeatureSpec) -> list[str]:
    """Return warnings on columns that are known only after the click.

    Args:
        sample: some good rows: label and features, without lists and vectors.
        spec: names the features.
    """
    owners = sample[[spec.user, spec.item]]
    others = [f for f in spec.features if f.name in sample.columns and f.name not in owners]
    found = {f.log_name: telling(sample[f.name], sample["label"], owners) for f in others}
    return [
        f"{name}: {how}: if it is known only after the click, remove it from features.columns"
        for name, how in found.items()
        if how
    ]


def on_labels(shown: int, clicked: int, users: int, config: CheckConfig) -> list[str]:
    """Return warnings on what a day can teach and prove.

    Args:
        shown: good impressions.
        clicked: those that are clicked.
        users: users with clicked and unclicked ones.
        config: settings of training and gate.
    """
    warnings = []
    if shown and not clicked:
        warnings.append("no impression is clicked: check features.label or sources.clicks")
    if shown and clicked == shown and not config.negatives:
        warnings.append("every impression is clicked: set build.negatives for logs of positives")
    if shown and 0 < clicked < shown and users < config.min_users:
        warnings.append(
            f"{users} users have both clicked and unclicked rows, nightly.min_users is"
            f" {config.min_users}: this day cannot prove a model better"
        )
    steps = shown // config.batch_size
    if shown > 0 and steps < FEW_STEPS:
        warnings.append(
            f"a day makes {steps} training steps of {config.batch_size} rows: train on more days"
            " (train.window), or lower train.batch_size"
        )
    return warnings


def on_history(users: int, known: int, day: date) -> list[str]:
    """Return warnings on users of a day, of whom ``known`` have behaviours before it."""
    if not users or known >= (1 - MOSTLY) * users:
        return []
    return [
        f"{1 - known / users:.0%} of the users have no behaviour before {day}: the behaviours begin"
        " shortly before (history.since), or name users by other keys than the impressions"
    ]


def on_candidates(new: float, day: date, spec: FeatureSpec) -> list[str]:
    """Return warnings on the share of candidates with items that ``day`` did not show."""
    if new < MOSTLY or spec.vectors:
        return []
    return [
        f"{new:.0%} of the candidates have items that {day} did not show: ids tell nothing of"
        " them; counters and vectors (type: vector) do"
    ]
