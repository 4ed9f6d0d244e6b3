"""Bucket boundaries of numeric features by quantiles, computed once and kept.

They are part of the contract: the first build computes them from the first day of the logs and
writes them into the FeatureSpec, where every later job reads them.
"""

from dataclasses import replace
from datetime import date

from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.examples.state import STATE
from pipelines.ingest.logs import Logs
from pipelines.store.store import Store

SAMPLE = 1_000_000


def with_boundaries(logs: Logs, store: Store, day: date) -> Logs:
    """Return the logs with a spec whose quantile boundaries are filled in.

    Raises:
        InputError: a feature has no value.
    """
    unbounded = [f for f in logs.spec.features if f.quantiles]
    if not unbounded:
        return logs
    if dates := store.dates(STATE):
        built = FeatureSpec.from_json(store.require(STATE, dates[-1], "").facts["spec"])
        boundaries = {f.name: f.boundaries for f in built.features if f.quantiles}
    else:
        boundaries = _measure(logs, unbounded, day)
    features = [
        replace(f, boundaries=boundaries.get(f.name, f.boundaries)) for f in logs.spec.features
    ]
    return replace(logs, spec=replace(logs.spec, features=tuple(features)))


def _measure(logs: Logs, features: list[Feature], day: date) -> dict[str, tuple[float, ...]]:
    first = logs.since or day
    start = first if logs.sources.impressions.dated else None
    rows = logs.impressions(start, first).where("reason is null")
    # A hash sample with exact quantiles: the same rows give the same boundaries.
    share = max(1, rows.count() // SAMPLE)
    sample = rows.where(F.pmod(F.xxhash64("example_id"), F.lit(share)) == 0)
    columns = []
    for f in features:
        cuts = [i / f.quantiles for i in range(1, f.quantiles)]
        value = F.when(~F.isnan(f.name), F.col(f.name))
        columns.append(F.percentile(value, F.array(*map(F.lit, cuts))).alias(f.name))
    quantiles = sample.agg(*columns).first()
    assert quantiles is not None
    for f in features:
        if quantiles[f.name] is None:
            raise InputError(
                f"features.columns.{f.name}: no value on {first} to compute quantiles from: set"
                " boundaries instead"
            )
    return {f.name: tuple(sorted(set(quantiles[f.name]))) for f in features}
