"""What the first build measures of numeric features: boundaries, center, spread, vector size.

They are part of the contract: the first build measures them on the first day of the logs and writes
them into the FeatureSpec, where every later job reads them.
"""

from dataclasses import replace
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.columns import finite
from pipelines.ingest.logs import Logs
from pipelines.ingest.reading import files_of, naming_damaged
from pipelines.store.data_sets import STATE
from pipelines.store.store import Store

SAMPLE = 1_000_000


def with_measures(logs: Logs, store: Store, day: date) -> Logs:
    """Return the logs with a spec whose quantile boundaries, centers and spreads are filled in.

    Raises:
        InputError: a feature has no value.
    """
    unmeasured = [f for f in logs.spec.features if f.quantiles or f.is_value or f.is_vector]
    if not unmeasured:
        return logs
    if dates := store.dates(STATE):
        built = FeatureSpec.from_json(store.require(STATE, dates[-1], "").facts["spec"])
        measured = {f.name: f for f in built.features}
    else:
        measured = _measure(logs, unmeasured, day)
    features = [
        replace(
            f,
            boundaries=measured[f.name].boundaries if f.quantiles else f.boundaries,
            center=measured[f.name].center,
            spread=measured[f.name].spread,
            size=measured[f.name].size,
        )
        if f in unmeasured and f.name in measured
        else f
        for f in logs.spec.features
    ]
    return replace(logs, spec=replace(logs.spec, features=tuple(features)))


def _measure(logs: Logs, features: list[Feature], day: date) -> dict[str, Feature]:
    first = logs.since or day
    measured = {f.name: replace(f, size=_size(logs, f, first)) for f in features if f.is_vector}
    features = [f for f in features if not f.is_vector]
    if not features:
        return measured
    start = first if logs.sources.impressions.dated else None
    rows = logs.impressions(start, first).where("reason is null")
    # A hash sample with exact quantiles: the same rows give the same boundaries.
    with naming_damaged(logs.spark, files_of([rows])):
        share = max(1, rows.count() // SAMPLE)
    sample = rows.where(F.pmod(F.xxhash64("example_id"), F.lit(share)) == 0)
    columns = [column for f in features for column in _columns(f)]
    numbers = sample.agg(*columns).first()
    assert numbers is not None
    for f in features:
        if f.is_value:
            center, spread = numbers[f"{f.name}.center"], numbers[f"{f.name}.spread"]
            measured[f.name] = replace(f, center=center or 0.0, spread=spread or 1.0)
            continue
        if numbers[f.name] is None:
            raise InputError(
                f"features.columns.{f.log_name}: no value on {first} to compute quantiles from: set"
                " boundaries instead"
            )
        measured[f.name] = replace(f, boundaries=tuple(sorted(set(numbers[f.name]))))
    return measured


def _size(logs: Logs, feature: Feature, day: date) -> int:
    """Return how many numbers most vectors of a feature have."""
    sizes = logs.side_tables.vectors(feature, day).groupBy(F.size("values").alias("size")).count()
    most = sizes.orderBy(F.desc("count"), "size").first()
    if most is None:
        raise InputError(
            f"features.columns.{feature.log_name}: no vector in the side table of {day}"
        )
    return int(most["size"])


def _columns(feature: Feature) -> list[Column]:
    """Return the aggregates that a feature needs; what is not finite counts as missing."""
    name = feature.name
    value = F.when(finite(F.col(name)).isNotNull(), F.col(name))
    if not feature.is_value:
        cuts = [i / feature.quantiles for i in range(1, feature.quantiles)]
        return [F.percentile(value, F.array(*map(F.lit, cuts))).alias(name)]
    if feature.scale == "log":
        value = F.signum(value) * F.log1p(F.abs(value))
    return [F.avg(value).alias(f"{name}.center"), F.stddev_pop(value).alias(f"{name}.spread")]
