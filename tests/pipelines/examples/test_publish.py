"""Unclicked impressions may be sampled for training; what judges never is."""

from dataclasses import replace

import pytest

from din_model.training.config import TrainConfig
from pipelines.examples.build import build_day
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.publish import BuildConfig, Publication, republish, unsampled_examples
from pipelines.examples.split import SplitConfig
from pipelines.store.data_sets import EXAMPLES
from pipelines.store.store import Store
from pipelines.training.training_set import hold_out, open_training_set
from tests.pipelines.examples.test_build import DAY, impressions, logs_of

CONFIG = BuildConfig(shards=2, sample_rate=0.25, quality=QualityConfig(change={}))


def test_a_sampled_day_keeps_every_click_and_is_evaluated_on_every_row(spark, tmp_path):
    logs, store = logs_of(spark, tmp_path, impressions(400)), Store(str(tmp_path / "store"))
    manifest = build_day(logs, store, CONFIG, SplitConfig(), DAY)
    assert manifest.facts["sample_rate"] == 0.25
    kept = store.read(spark, [manifest]).groupBy("label").count().collect()
    kept = {row["label"]: row["count"] for row in kept}
    assert kept[1.0] == 80, "of 80 and 320"
    assert 50 < kept[0.0] < 110, "of 80 and 320"
    assert unsampled_examples(store, DAY).rows == 400
    everything = store.read(spark, [unsampled_examples(store, DAY)])
    ids = {row["example_id"] for row in everything.collect()}
    assert {row["example_id"] for row in store.read(spark, [manifest]).collect()} < ids

    training_set = open_training_set(store, [DAY], SplitConfig(), DAY)
    assert training_set.evaluation.rows == 400
    assert training_set.training[0].rows == sum(kept.values())
    assert training_set.base_rate == pytest.approx(80 / (80 + 4 * kept[0.0])), (
        "a kept row is worth four"
    )
    reader = training_set.training_loader(store, TrainConfig(batch_size=32))
    weights = {float(w) for batch, _ in reader.epoch() for w in batch.weight}
    assert weights == {1.0, 4.0}
    judges = training_set.evaluation_loader(store)
    assert {float(w) for batch, _ in judges.epoch() for w in batch.weight} == {1.0}


@pytest.mark.parametrize(("shards", "files"), [(1, 4), (3, 6)])
def test_a_date_has_a_file_to_hold_out_however_few_ranks_there_are(spark, tmp_path, shards, files):
    spec, store = logs_of(spark, tmp_path, []).spec, Store(str(tmp_path / "store"))
    examples = spark.range(40).selectExpr(
        "id as example_id", "id as time", "cast(id % 3 as int) as user", "id % 7 as item",
        "cast(array() as array<int>) as clicks__item",
    ).orderBy("user", "example_id")  # fmt: skip
    publication = Publication(EXAMPLES, DAY, {"sample_rate": 1})
    manifest = republish(store, publication, examples, spec, replace(CONFIG, shards=shards))
    assert len(manifest.files) == files
    slices = hold_out(store, (manifest,))
    assert slices.validation.rows > 0
    assert slices.validation.rows + slices.training[0].rows == manifest.rows


@pytest.mark.slow
def test_the_sample_depends_on_the_seed_only(spark, tmp_path):
    logs = logs_of(spark, tmp_path, impressions(400))

    def content(seed: int, name: str) -> str:
        store = Store(str(tmp_path / name))
        build_day(logs, store, replace(CONFIG, seed=seed), SplitConfig(), DAY)
        return store.require("counts", DAY, "").facts["content"]

    assert content(1, "a") == content(1, "b") != content(2, "c")
