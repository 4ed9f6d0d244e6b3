"""The demo, made small enough for tests, and what tests of jobs share."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from deltalake import DeltaTable
from pyspark.sql import DataFrame

from pipelines.session import java_home
from pipelines.store.store import Store

DEMO = Path(__file__).parents[1] / "conf" / "demo.yaml"
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
    "train.min_steps=0",
    "train.batch_size=256",
    "train.learning_rate=0.005",
    "train.window=2",
    "train.baselines=[]",
    "build.max_broken=0.02",
    "features.counters={by_item_id: {keys: [item_id]}, pair: {keys: [user_id, item_id]}}",
    "nightly.min_gain=-0.1",  # so few users prove no gain: who is not much worse wins
    "nightly.beat_popularity=false",
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


def withdraw(store: Store, name: str, day: date) -> int:
    """Let nothing be published for a date; return the table's version before."""
    table = DeltaTable(f"{store.base}/{name}")
    version = table.version()
    table.delete(f"date = '{day}'")
    return version


def kill_after(seconds: float, command: Sequence[str], folder: Path) -> bool:
    """Run a job and kill it and all its processes after that time; false if it ended before."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as job:  # fmt: skip
        try:
            job.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            return True
    return False
