"""SIGKILL of an erasure at random moments: readers see whole tables, and the rerun finishes it."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import SparkSession

from pipelines.store.data_sets import DATA_SETS, ERASURES, NIGHTS
from pipelines.store.store import Store
from tests.nights import SMALL, environment, kill_after, rows
from tests.pipelines.test_erasure import texts

ROUNDS = 8
NAMES = [name for name in DATA_SETS if name not in (ERASURES, NIGHTS)]
Tables = dict[tuple[str, str], list[str]]


def tables(spark: SparkSession, store: Store) -> Tables:
    """The rows of every date of every data set; a Delta reader must count the same."""
    found = {}
    for name in NAMES:
        for manifest in store.manifests(name):
            found[name, manifest.date] = rows(store.read(spark, [manifest]))
        if of_name := [len(kept) for (own, _), kept in found.items() if own == name]:
            delta = QueryBuilder().register("t", DeltaTable(f"{store.base}/{name}"))
            assert delta.execute("select count(*) from t").read_all()[0][0].as_py() == sum(of_name)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_erasure_leaves_whole_tables_and_its_rerun_finishes_it(spark, nights, tmp_path):
    settings, original, _ = nights
    scores = original.read(spark, original.manifests("scores")[-1:])
    key = min(row["user_id"] for row in scores.collect())
    before = tables(spark, original)

    def a_copy(name: str) -> Path:
        ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
        return Path(shutil.copytree(original.base, tmp_path / name, ignore=ignored))

    def erasing(place: Path) -> list[str]:
        config = str(Path(settings.store.path).parents[2] / "demo.yaml")
        command = [sys.executable, "-m", "jobs.erase", "--config", config, *SMALL]
        command += ["history.kinds.clicks.age=true", f"store.path={place}", f"erase.users=[{key}]"]
        return [*command, f"tracking.uri=sqlite:///{settings.store.path}/mlflow.db"]

    undisturbed, began = a_copy("undisturbed"), time.monotonic()
    subprocess.run(erasing(undisturbed), cwd=tmp_path, env=environment(), check=True)
    seconds = time.monotonic() - began
    after = tables(spark, Store(str(undisturbed)))
    assert after != before
    assert after.keys() == before.keys()
    rng, tried = random.Random(2019), 0
    for number in range(ROUNDS):
        place = a_copy(f"killed-{number}")
        tried += kill_after(rng.uniform(0.3, 1.0) * seconds, erasing(place), tmp_path)
        left = tables(spark, Store(str(place)))
        assert all(left[table] in (before[table], after[table]) for table in before)
        ended = subprocess.run(
            erasing(place), cwd=tmp_path, env=environment(), check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0 or "nothing is known of" in ended.stderr, ended.stderr
        assert tables(spark, Store(str(place))) == after
        assert key not in texts(Store(str(place)))
    assert tried, "no kill came before the end: nothing was tried"
