"""Compare ``mean`` and ``din`` for users with 1 to 16 interests, at dimensions 4 to 64.

    python -m benchmarks.interests [--interests 1 2 4 8 16] [--dimensions 4 8 16 32 64]

Shows when one fixed vector per user is enough. The generated logs differ only in the number of
categories that a user likes. Both encoders are trained on the same rows at every dimension and
evaluated on the next day. Users have no embedding, so a model knows only their behaviours. Draws
docs/interests.png, whose dashed line is the AUC of the true click probabilities. The last line is
JSON: interests -> encoder -> AUC by dimension.
"""

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks.demo import demo_settings
from din_model.evaluation import comparison_plots as plots
from din_model.evaluation.metrics import Meter
from pipelines.examples.build import build_day
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store
from pipelines.training.grid import mean_of_seeds, run_grid
from pipelines.training.training_set import TrainingSet, open_training_set, training_days

PICTURE = Path(__file__).parents[1] / "docs" / "interests.png"


def compare(
    folder: Path, interests: int, dimensions: list[int], seeds: list[int]
) -> tuple[plots.Spread, float]:
    """Return the AUC by encoder and dimension, and that of the true click probabilities.

    Args:
        folder: for the logs and the store.
        interests: number of categories that a user likes.
        dimensions: of the embeddings.
        seeds: of the models.
    """
    words = [
        f"generate.interests={interests}",
        "generate.impressions=30000",
        "generate.history=40",
        # A click on any other category would add an interest to the user's history, so such clicks
        # are rare.
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
        "train.model.matches=false",
        f"compare.dimensions={dimensions}",
        f"compare.seeds={seeds}",
    ]
    settings = demo_settings(folder, words)
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
    """Return the AUC of the true click probabilities on the evaluation rows."""
    with Meter(by_user=False) as meter:
        for columns in training_set.evaluation_loader(store).chunks():
            meter.add(columns["label"], columns["reference"])
        return meter.result()["auc"]


def measure(
    folder: Path, interests: list[int], dimensions: list[int], seeds: list[int]
) -> dict[str, object]:
    aucs, best = {}, {}
    for number in interests:
        title = "1 interest" if number == 1 else f"{number} interests"
        aucs[title], best[title] = compare(folder / str(number), number, dimensions, seeds)
        for (encoder, dimension), (auc, spread) in aucs[title].items():
            print(f"{title}: {encoder} {dimension}: {auc:.4f} ± {spread:.4f}", flush=True)
    plots.by_interests(aucs, best).savefig(PICTURE, dpi=110)
    return {
        title: {
            encoder: {d: round(auc, 4) for (e, d), (auc, _) in spread.items() if e == encoder}
            for encoder in ("mean", "din")
        }
        for title, spread in aucs.items()
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
        results = measure(Path(place), words.interests, words.dimensions, words.seeds)
        print(json.dumps(results))
