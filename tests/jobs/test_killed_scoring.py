"""SIGKILL of the driver while it scores: readers see a whole day, and the rerun is identical."""

import random
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import SparkSession

from jobs.cli import Settings
from pipelines.store.store import Store
from tests.nights import NIGHTS, SMALL, environment, kill_after, rows

ROUNDS = 10
DAY = NIGHTS[-1] + timedelta(days=1)


def scoring(settings: Settings, store: Path) -> list[str]:
    """Score the day again, otherwise than it is published: four reasons instead of three."""
    # The nights' own configuration: all its paths are theirs, but for the store.
    config = str(Path(settings.store.path).parents[2] / "demo.yaml")
    command = [sys.executable, "-m", "jobs.score", "--config", config, "--date", str(DAY)]
    command += [*SMALL, "history.kinds.clicks.age=true", f"store.path={store}", "score.explain=4"]
    return [*command, f"tracking.uri=sqlite:///{settings.store.path}/mlflow.db"]


def table(spark: SparkSession, store: Store) -> list[str]:
    """What the manifest shows, which is what any reader of the Delta table finds."""
    manifest = store.require("scores", DAY, "")
    found = rows(store.read(spark, [manifest]))
    query = f"select run, count(*) from scores where date = '{DAY}' group by run"
    scores = QueryBuilder().register("scores", DeltaTable(f"{store.base}/scores"))
    of_runs = scores.execute(query).read_all()
    assert [of_runs.column(i).to_pylist() for i in (0, 1)] == [[manifest.run], [manifest.rows]]
    assert len(found) == manifest.rows
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_scoring_leaves_the_published_table_and_its_rerun_is_identical(
    spark, nights, tmp_path
):
    settings, original, _ = nights
    before = table(spark, original)

    def a_copy(name: str) -> Path:
        ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
        return Path(shutil.copytree(original.base, tmp_path / name, ignore=ignored))

    undisturbed, began = a_copy("undisturbed"), time.monotonic()
    subprocess.run(scoring(settings, undisturbed), cwd=tmp_path, env=environment(), check=True)
    seconds = time.monotonic() - began
    after = table(spark, Store(str(undisturbed)))
    assert after != before
    rng, seen = random.Random(2019), set()
    for number in range(ROUNDS):
        place = a_copy(f"killed-{number}")
        command = scoring(settings, place)
        kill_after(rng.uniform(0.2, 1.0) * seconds, command, tmp_path)
        store = Store(str(place))
        left = table(spark, store)
        assert left in (before, after), "a part of a day was seen"
        seen.add(left == after)
        subprocess.run(command, cwd=tmp_path, env=environment(), check=True)
        assert table(spark, store) == after
    assert False in seen, "no kill came before the end: nothing was tried"
