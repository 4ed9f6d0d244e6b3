"""Users with 1 to 16 interests, embeddings of 4 to 64 numbers: when is one fixed vector enough?

    python -m benchmarks.interests [--interests 1 2 4 8 16] [--dimensions 4 8 16 32 64]

Generates logs that differ in nothing but how many categories a user likes, trains ``mean`` and
``din`` at every dimension on the same rows, judges them on the day after, and draws
docs/interests.png. The dashed line is the AUC of the true click probabilities. Users have no
embedding of their own: what is known of them is what they did. The last line printed is JSON:
interests -> encoder -> AUC by dimension.
"""

import argparse
import json
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

from din_model.config import load
from din_model.evaluation import comparison_plots as plots
from din_model.evaluation.metrics import Meter
from jobs.cli import Settings
from pipelines.examples.build import build_day
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store
from pipelines.training.grid import mean_of_seeds, run_grid
from pipelines.training.training_set import TrainingSet, open_training_set, training_days

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "interests.png"


def compare(interests: int, dimensions: list[int], seeds: list[int]) -> tuple[plots.Spread, float]:
    """AUC by encoder and dimension for users of so many interests, and that of the truth."""
    words = [
        f"generate.interests={interests}",
        f"store.path=store-{interests}",
        "generate.impressions=30000",
        "generate.history=40",
        # Who clicks on a category once has it among his interests; so that nobody gathers more of
        # them than he was given, hardly anything else is clicked on.
        "generate.base_rate=0.005",
        "generate.affinity=5",
        "features.columns.user_id.dimension=0",
        "train.window=2",
        "train.epochs=4",
        "train.schedule=cosine",
        "train.learning_rate=0.005",
        "train.embedding_learning_rate=0.015",
        "train.regularisation=0.3",
        "train.model.init_std=0.01",
        f"compare.dimensions={dimensions}",
        f"compare.seeds={seeds}",
    ]
    text = (ROOT / "conf" / "demo.yaml").read_text()
    Path("demo.yaml").write_text(text.replace("out/demo/logs", f"logs-{interests}"))
    settings = load(Settings, ["demo.yaml"], words)
    assert settings.generate is not None
    assert settings.date is not None
    logs, store = settings.open("benchmark", settings.date)
    generate(logs.spark, settings.generate)
    days = training_days(settings.train, settings.split, settings.date, settings.history.since)
    for day in [*days, settings.date]:
        build_day(logs, store, settings.build, settings.split, day)
    training_set = open_training_set(store, days, settings.split, settings.date)
    cells, *_ = run_grid(
        store, training_set, settings.train, settings.compare,
        lambda _: nullcontext(), lambda _: None,
    )  # fmt: skip
    return mean_of_seeds(cells, "auc"), truth(store, training_set)


def truth(store: Store, training_set: TrainingSet) -> float:
    """AUC of the true click probabilities on the rows that judge."""
    with Meter(by_user=False) as meter:
        for columns in training_set.evaluation_loader(store).chunks():
            meter.add(columns["label"], columns["reference"])
        return meter.result()["auc"]


def measure(interests: list[int], dimensions: list[int], seeds: list[int]) -> dict[str, object]:
    found, best = {}, {}
    for number in interests:
        title = "1 interest" if number == 1 else f"{number} interests"
        found[title], best[title] = compare(number, dimensions, seeds)
        for (encoder, dimension), (auc, spread) in found[title].items():
            print(f"{title}: {encoder} {dimension}: {auc:.4f} ± {spread:.4f}", flush=True)
    plots.by_interests(found, best).savefig(PICTURE, dpi=110)
    return {
        title: {
            encoder: {d: round(auc, 4) for (e, d), (auc, _) in spread.items() if e == encoder}
            for encoder in ("mean", "din")
        }
        for title, spread in found.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interests", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        print(json.dumps(measure(words.interests, words.dimensions, words.seeds)))
