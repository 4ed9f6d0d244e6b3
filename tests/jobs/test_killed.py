"""SIGKILL of a build at random moments: yesterday reads, and the rerun is what it would be."""

import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from din_model.config import load
from jobs import build_sequences
from jobs.cli import Settings
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store
from tests.nights import SMALL, demo, environment, rows

ROUNDS = 10
YESTERDAY, TODAY = date(2026, 11, 19), date(2026, 11, 20)
WORDS = [*SMALL, "generate.days=2"]
TABLES = ("vocabulary", "examples", "state", "counts")
Table = dict[str, list[str]]


def settings_of(folder: Path, store: str) -> Settings:
    return load(Settings, [demo(folder)], [*WORDS, f"store.path={folder / store}"])


def published(spark: SparkSession, store: Store, day: date) -> Table:
    return {name: rows(store.read(spark, [store.require(name, day, "")])) for name in TABLES}


@pytest.fixture(scope="module")
def undisturbed(spark, tmp_path_factory) -> tuple[Path, Table, Table]:
    """A folder with logs and yesterday's store, its tables, and today's as they should be."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    folder = tmp_path_factory.mktemp("killed")
    settings = settings_of(folder, "yesterday")
    assert settings.generate is not None
    generate(spark, settings.generate)
    build_sequences.run(settings, YESTERDAY)
    shutil.copytree(folder / "yesterday", folder / "undisturbed")
    build_sequences.run(settings_of(folder, "undisturbed"), TODAY)
    store = Store(str(folder / "undisturbed"))
    return folder, published(spark, store, YESTERDAY), published(spark, store, TODAY)


def kill_a_build(folder: Path, store: str, rng: random.Random) -> str:
    """Start today's build in its own processes and kill them all; return the last line it said."""
    env = environment() | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "jobs.build_sequences", "--config", demo(folder)]
    command += ["--date", str(TODAY), f"store.path={folder / store}", *WORDS]
    with subprocess.Popen(
        command, cwd=folder, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as build:  # fmt: skip
        assert build.stdout is not None
        said = ""
        for _ in range(rng.randint(1, 5)):  # stages: logs, vocabulary, examples, state, counts
            said = build.stdout.readline() or said
        try:
            build.wait(timeout=rng.uniform(0, 1.5))
        except subprocess.TimeoutExpired:
            os.killpg(build.pid, signal.SIGKILL)
    return said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_build_leaves_published_data_and_its_rerun_gives_the_same_rows(spark, undisturbed):
    folder, yesterday, today = undisturbed
    rng = random.Random(2019)
    for number in range(ROUNDS):
        name = f"killed-{number}"
        shutil.copytree(folder / "yesterday", folder / name)
        said = kill_a_build(folder, name, rng)
        store = Store(str(folder / name))
        assert published(spark, store, YESTERDAY) == yesterday, f"killed after {said!r}"
        plain = spark.read.parquet(f"{store.url}/examples").where(f"date = '{YESTERDAY}'")
        assert plain.count() == store.require("examples", YESTERDAY, "").rows
        build_sequences.run(settings_of(folder, name), TODAY)
        assert published(spark, store, TODAY) == today, f"killed after {said!r}"
