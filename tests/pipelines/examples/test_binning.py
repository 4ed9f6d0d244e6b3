"""Quantile boundaries are found once, from the first day, and kept in the contract."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.examples.binning import with_measures
from pipelines.examples.vocabulary import encode
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, Source, SourcesConfig
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store

DAYS = date(2026, 11, 19), date(2026, 11, 20)
SPEC = feature_spec(
    FeaturesConfig(
    counters={},
        user="user", item="item", time="at", label="clicked",
        columns={
            "user": ColumnConfig(side="user"),
            "item": ColumnConfig(side="item"),
            "price": ColumnConfig(side="item", type="number", quantiles=4),
        },
    ),
    HistoryConfig({"clicks": KindConfig({"item": "item"})}),
)  # fmt: skip


def logs_of(spark, folder, prices: dict[date, list[float | None]]) -> Logs:
    for day, values in prices.items():
        rows = [(f"u{n}", f"i{n}", f"{day} 10:00:00", n % 2, v) for n, v in enumerate(values)]
        frame = spark.createDataFrame(
            rows, "user string, item string, at string, clicked int, price double"
        )
        frame.write.parquet(f"{folder}/log/date={day}")
    source = Source(path=f"{folder}/log/date={{date}}")
    done = BehaviourSource(origin="impressions", label_delay="0s")
    return Logs(spark, SourcesConfig(source, (done,)), SPEC, DAYS[0])


def publish_state(spark, store: Store, day: date, spec: FeatureSpec) -> None:
    """Publish what a build leaves of the spec: the facts of a state."""
    facts = {"spec": spec.to_json(), "spec_hash": spec.hash}
    store.publish("state", day, spark.createDataFrame([(2,)], "user int"), facts)


def test_later_days_keep_the_boundaries_of_the_first(spark, tmp_path):
    values = np.random.default_rng(1).lognormal(size=101).tolist()
    logs = logs_of(spark, tmp_path, {DAYS[0]: [*values, None], DAYS[1]: [1e6] * 40})
    store, cold = Store(str(tmp_path / "store")), Store(str(tmp_path / "cold"))
    spec = with_measures(logs, store, DAYS[0]).spec
    expected = np.quantile(values, [0.25, 0.5, 0.75])
    assert spec["price"].boundaries == pytest.approx(tuple(expected))
    publish_state(spark, store, DAYS[0], spec)
    assert with_measures(logs, store, DAYS[1]).spec.hash == spec.hash
    assert with_measures(logs, cold, DAYS[1]).spec.hash == spec.hash, "a cold build"
    changed = logs_of(spark, tmp_path / "changed", {DAYS[0]: [5.0, 6.0, 7.0, 8.0]})
    assert with_measures(changed, store, DAYS[1]).spec.hash == spec.hash, "kept, not measured"
    rows = encode(logs.impressions(DAYS[0], DAYS[0]), [spec["price"]], None)
    buckets = {row["price"]: row["count"] for row in rows.groupBy("price").count().collect()}
    assert buckets == {1: 1, 2: 25, 3: 25, 4: 25, 5: 26}, "1 is unknown"


def test_a_column_without_values_has_no_quantiles(spark, tmp_path):
    logs = logs_of(spark, tmp_path, {DAYS[0]: [None, None]})
    with pytest.raises(InputError, match=r"columns\.price: no value on 2026-11-19 to compute"):
        with_measures(logs, Store(str(tmp_path / "store")), DAYS[0])


def test_boundaries_and_quantiles_exclude_each_other():
    with pytest.raises(ValueError, match="not both"):
        ColumnConfig(side="item", type="number", quantiles=4, boundaries=(1.0,))
    item = replace(SPEC["price"], quantiles=1)
    with pytest.raises(InputError, match=r"price\.quantiles: must be 0 or at least 2"):
        replace(SPEC, features=(SPEC["user"], SPEC["item"], item))
