"""Columns of any name go from the logs into examples, a model and published scores."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from pyspark.sql import SparkSession

from din_model.data.loader import File, Loader
from din_model.modules.din import DIN, ModelConfig, new_model
from din_model.modules.embeddings import assign_rows
from din_model.registry import artifact
from pipelines.examples.build import build_day
from pipelines.examples.counters import attach
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.sources import BehaviourSource, SideTable, Source, SourcesConfig, start_of
from pipelines.scoring.scorer import (
    Night,
    count_candidates,
    encode_candidates,
    restore_keys,
    score,
)
from pipelines.scoring.udf import Task
from pipelines.shipping import ship
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store

TODAY = date(2026, 11, 20)

FEATURES = FeaturesConfig(
    user="the user", item="item.id", time="reason", label="weight", weight="label",
    reference="_at", key=("im.pression",), dimension=4,
    columns={
        "the user": ColumnConfig(side="user"),
        "item.id": ColumnConfig(side="item"),
        "kind": ColumnConfig(side="item"),
        "class": ColumnConfig(side="item"),
        "marke €": ColumnConfig(side="item", max_length=2),
        "_id": ColumnConfig(side="item", type="number"),
        "wide": ColumnConfig(side="item"),
        "Time": ColumnConfig(side="context", serving_default="noon"),
    },
)  # fmt: skip
HISTORY = HistoryConfig({"items": KindConfig({"item.id": "item.id", "kind": "kind"}, length=3)})


def row(n: int) -> dict[str, object]:
    return {
        "im.pression": f"n{n}", "the user": f"u{n % 3}", "item.id": f"i{n % 5}",
        "kind": f"k{n % 2}", "class": f"c{n % 5}", "_id": n % 5 / 2, "wide": f"w{n % 5}",
        "Time": "early",
        "reason": f"{TODAY} 10:00:{n:02}", "weight": n % 2, "label": 2.0, "_at": 0.5,
        "cut.off": "nobody asks for this one",
    }  # fmt: skip


def logs_of(spark: SparkSession, folder: Path) -> Logs:
    items = [{"item.id": f"i{n}", "marke €": ["a", f"b{n}"]} for n in range(5)]
    tables = {"impressions": [row(n) for n in range(40)], "items": items, "candidates": [row(7)]}
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))
    sources = SourcesConfig(
        impressions=Source(path=f"{folder}/impressions.json", format="json"),
        behaviours=(BehaviourSource(origin="impressions", kind="items", label_delay="0s"),),
        items=SideTable(path=f"{folder}/items.json", format="json"),
        candidates=Source(path=f"{folder}/candidates.json", format="json"),
    )
    return Logs(spark, sources, feature_spec(FEATURES, HISTORY), None)


def some_model(loader: Loader) -> DIN:
    spec = loader.spec
    rows = {name: assign_rows(np.full(20, 9), 1) for name in spec.dimensions}
    config = ModelConfig(attention=(4,), tower=(4,), wide=8)
    model = new_model(spec, config, rows, seed=1)
    for batch, _ in loader.epoch():
        assert batch.weight.tolist() == [2.0] * batch.rows
        assert model(batch).isfinite().all()
    return model


def test_columns_of_any_name_go_from_log_to_score(spark, tmp_path):
    logs, store, morrow = logs_of(spark, tmp_path), Store(f"{tmp_path}/store"), TODAY + DAY
    spec = logs.spec
    examples = build_day(logs, store, BuildConfig(shards=1), SplitConfig(), TODAY)
    assert examples.rows == 40
    files = [File(url, f.rows) for url, f in zip(store.urls(examples), examples.files, strict=True)]
    model = some_model(Loader(files, spec, batch_size=16))
    artifact.save(tmp_path / "model", model, artifact.ModelMetadata(str(TODAY), "f"))

    vocabulary, _ = open_vocabulary(spark, store)
    rows = encode_candidates(logs.candidates(morrow), spec, vocabulary)
    sums, state = (store.read(spark, [store.require(n, TODAY, "")]) for n in ("counters", "state"))
    found = count_candidates(attach(rows, sums, spec, start_of(morrow, "UTC")), 1, None)
    night = Night(spec, ship(spark, tmp_path / "model"), Task(start_of(morrow, "UTC"), explain=1))
    scores = restore_keys(score(found.good, found.sizes, state, night), spec, vocabulary)
    published = store.publish("scores", morrow, scores, {})
    [scored] = store.read(spark, [published]).collect()
    assert (scored["the user"], scored["item.id"], scored["history_length"]) == ("u1", "i2", 3)
    assert [(why["kind"], why["item"][0]) for why in scored["explanations"]] == [("items", "i")]
    torch.testing.assert_close(scored["unknown_item"], False)
