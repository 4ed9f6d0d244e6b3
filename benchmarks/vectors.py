"""Measure how much item vectors gain where half of a day's impressions show new items.

    python -m benchmarks.vectors [--impressions 100000]

In the generated logs half of a day's impressions show items that no earlier day has shown. Each
item has a vector: its category with noise. The category itself is not a feature. Two models are
trained on the earlier days and evaluated on the last: one with ids only, one with ids and vectors.
The last line is JSON: both AUCs, the best possible AUC, and the share of the gap between the ids
and the best that the vectors close.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.demo import demo_settings
from jobs.cli import Settings
from pipelines.examples.build import build_day
from pipelines.ingest.sources import days_between
from pipelines.ingest.synthetic import generate
from pipelines.session import spark_session
from pipelines.training.challenger import train
from pipelines.training.evaluate import evaluate_model, simple_scores
from pipelines.training.training_set import open_training_set

FIRST, LAST = date(2026, 11, 19), date(2026, 11, 22)


def settings_of(folder: Path, side: str, impressions: int) -> Settings:
    """Return the demo's configuration without categories and segments."""
    vector = "    embedding: {side: item, type: vector}\n" if side == "vectors" else ""

    def edit(text: str) -> str:
        columns = text[text.index("  columns:") : text.index("history:")]
        text = text.replace(
            columns,
            "  columns:\n    user_id: {side: user, dimension: 8}\n"
            f"    item_id: {{side: item, type: int64}}\n{vector}\n",
        )
        return text.replace(", category: category", "")

    sizes = [f"generate.impressions={impressions}", f"generate.users={impressions // 20}"]
    made = ["generate.new_items=0.3", "generate.fresh=0.5", "generate.vector_size=32"]
    return demo_settings(folder, [f"store.path={folder}/{side}", *sizes, *made], edit)


def aucs(folder: Path, side: str, impressions: int) -> dict[str, float]:
    """Return the AUC on the last day of the model, of popularity and of the true probabilities."""
    settings = settings_of(folder, side, impressions)
    assert settings.generate
    generate(spark_session("benchmark", "UTC"), settings.generate)
    logs, store = settings.open("benchmark", FIRST)
    days = days_between(FIRST, LAST)
    for day in days:
        build_day(logs, store, settings.build, settings.split, day)
    config = settings.train
    data = open_training_set(store, days[:-1], settings.split, LAST, config.patience)
    model, *_ = train(store, data, config, lambda *_: None)
    metrics = evaluate_model(model, store, data, side, simple_scores(store, data)).metrics
    return {name: values["auc"] for name, values in metrics.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=100_000)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = {side: aucs(Path(place), side, words.impressions) for side in ("ids", "vectors")}
    ids, vectors, best = found["ids"]["ids"], found["vectors"]["vectors"], found["ids"]["reference"]
    row = {"ids": ids, "vectors": vectors, "popularity": found["ids"]["popularity"], "best": best}
    row["share"] = (vectors - ids) / (best - ids)
    print(json.dumps({name: round(value, 4) for name, value in row.items()}))
