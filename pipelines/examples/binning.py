"""Boundaries of numeric features that are asked for as quantiles, found once and kept.

They are part of the contract: the first build takes them from the first day of the logs, writes
them into the FeatureSpec, and every later job reads them there.
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
        InputError: a feature has no value to take quantiles of.
    """
    lacking = [f for f in logs.spec.features if f.quantiles]
    if not lacking:
        return logs
    if dates := store.dates(STATE):
        built = FeatureSpec.from_json(store.require(STATE, dates[-1], "").facts["spec"])
        kept = {f.name: f.boundaries for f in built.features if f.quantiles}
    else:
        kept = _measure(logs, lacking, day)
    features = [replace(f, boundaries=kept.get(f.name, f.boundaries)) for f in logs.spec.features]
    return replace(logs, spec=replace(logs.spec, features=tuple(features)))


def _measure(logs: Logs, features: list[Feature], day: date) -> dict[str, tuple[float, ...]]:
    first = logs.since or day
    start = first if logs.sources.impressions.dated else None
    rows = logs.impressions(start, first).where("reason is null")
    # Sampled by a hash, and exact on the sample: the same rows give the same boundaries.
    share = max(1, rows.count() // SAMPLE)
    sample = rows.where(F.pmod(F.xxhash64("example_id"), F.lit(share)) == 0)
    columns = []
    for f in features:
        cuts = [i / f.quantiles for i in range(1, f.quantiles)]
        value = F.when(~F.isnan(f.name), F.col(f.name))
        columns.append(F.percentile(value, F.array(*map(F.lit, cuts))).alias(f.name))
    found = sample.agg(*columns).first()
    assert found is not None
    for f in features:
        if found[f.name] is None:
            raise InputError(
                f"features.columns.{f.name}: no value on {first} to take quantiles of; give"
                " boundaries instead"
            )
    return {f.name: tuple(sorted(set(found[f.name]))) for f in features}
