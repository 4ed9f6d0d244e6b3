"""Three generated nights from logs to scores, which several files look at and none changes."""

import os
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from din_model import registry
from din_model.config import load
from jobs import nightly
from jobs.settings import Settings
from pipelines.dataset import Store
from pipelines.session import java_home
from pipelines.synthetic import generate

DEMO = Path(__file__).parents[2] / "conf" / "demo.yaml"
NIGHTS = [date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 22)]
SMALL = [
    *(
        f"generate.{word}"
        for word in (
            "users=150", "items=120", "categories=12", "impressions=1500",
            "candidates_users=20", "candidates_items=9",
        )
    ),
    "train.epochs=3",
    "train.batch_size=256",
    "train.learning_rate=0.005",
    "train.window=2",
    "train.baselines=[]",
    "build.max_broken=0.02",
    "nightly.min_gain=-0.1",  # so few users prove no gain: who is not much worse wins
    "score.guards.max_drift=5",  # and versions of so little training differ much
]  # fmt: skip


def demo(folder: Path) -> str:
    """The demo's configuration with all its paths in ``folder``: Spark does not follow chdir."""
    path = folder / "demo.yaml"
    path.write_text(DEMO.read_text().replace("out/demo", f"{folder}/out/demo"))
    return str(path)


def environment() -> dict[str, str]:
    """What a job is started with as a process of its own, in any folder."""
    env = os.environ | {"PYTHONPATH": str(DEMO.parents[1]), "PYSPARK_PYTHON": sys.executable}
    env.pop("MLFLOW_TRACKING_URI", None)
    if home := java_home():
        env["JAVA_HOME"] = home
    return env


def rows(frame: DataFrame) -> list[str]:
    """Every row as text, sorted: equal lists, equal tables."""
    return sorted(map(str, frame.toPandas().to_numpy().tolist()))


@pytest.fixture(scope="package")
def nights(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Store, list[int | None]]:
    """Logs of four days and three nights on them; the champion after each night."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    config = demo(tmp_path_factory.mktemp("nights"))
    settings = load(Settings, [config], [*SMALL, "history.kinds.clicks.age=true"])
    assert settings.generate is not None
    generate(spark, settings.generate)
    champions = []
    for night in NIGHTS:
        nightly.run(settings, night)
        champions.append(registry.champion(settings.tracking.model))
    return settings, Store(settings.store.path), champions
