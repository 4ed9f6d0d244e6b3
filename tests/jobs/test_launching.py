"""Ranks as real processes, started in every way there is: one model, and no lost rank unnoticed."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from din_model import registry
from jobs.launching import LaunchConfig
from tests.jobs.conftest import NIGHTS, SMALL, environment

BY_TORCHRUN = ["launch.launcher=torchrun", "launch.ranks=2"]
BY_SPARK = ["launch.launcher=spark", "launch.ranks=2"]
PYTHON = [sys.executable, "-m"]


def started(nights, model: str, *words: str, command=PYTHON) -> subprocess.Popen[str]:
    """jobs.train on the last night's window, in a process of its own."""
    _, store, _ = nights
    config = Path(store.base).parents[2] / "demo.yaml"
    command = [*command, "jobs.train", "--config", str(config), "--date", str(NIGHTS[-1])]
    command += [*SMALL, "history.kinds.clicks.age=true", "train.threads=1"]
    command += [f"tracking.model={model}", *words]
    return subprocess.Popen(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def trained(nights, model: str, *words: str, command=PYTHON) -> tuple[int, str]:
    """The exit status of jobs.train, and what it said on standard error."""
    with started(nights, model, *words, command=command) as job:
        try:
            _, said = job.communicate(timeout=300)
        finally:
            job.kill()
    return job.returncode, said


def test_every_launcher_gives_the_same_model(nights):
    torchrun = [str(Path(sys.executable).parent / "torchrun"), "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m"]
    ways = {"a": (PYTHON, BY_TORCHRUN), "b": (PYTHON, BY_SPARK), "c": (torchrun, [])}
    found = {}
    for model, (command, words) in ways.items():
        status, said = trained(nights, f"ranks-{model}", *words, command=command)
        assert status == 0, said
        weights, facts = registry.load(f"ranks-{model}", 1)
        assert facts.rows_read == facts.rows > 0
        found[model] = weights.state_dict()
    for name, value in found["a"].items():
        assert torch.equal(value, found["b"][name]) and torch.equal(value, found["c"][name]), name


def test_a_model_trained_on_sharded_tables_is_whole_where_one_rank_loads_it(nights):
    pytest.importorskip("torchrec", exc_type=ImportError)
    words = ["train.embedding_engine=sharded", "train.embedding_optimizer=adagrad"]
    words += ["train.embedding_learning_rate=0.1", "train.regularisation=0"]
    status, said = trained(nights, "ranks-sharded", *BY_TORCHRUN, *words)
    assert status == 0, said
    model, facts = registry.load("ranks-sharded", 1)
    assert facts.rows_read == facts.rows > 0
    for table, size in model.tables.sizes.items():
        assert model.tables.weight(table).shape == size
    assert facts.metrics["din"]["auc"] > facts.metrics["popularity"]["auc"] + 0.03


@pytest.mark.parametrize("launcher", [BY_TORCHRUN, BY_SPARK])
def test_a_rank_that_fails_says_so_in_one_line(nights, launcher):
    _, store, _ = nights
    manifest = store.require("examples", NIGHTS[0], "")
    # The smaller half of the files: not what rank 0 begins with.
    missing = Path(store.urls(manifest)[-1].removeprefix("file://"))
    hidden = missing.rename(missing.with_suffix(".hidden"))
    try:
        status, said = trained(nights, "ranks-failed", *launcher)
    finally:
        hidden.rename(missing)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1, said
    assert "error: rank " in lines[0] and missing.name in lines[0] and "it is gone" in lines[0]
    assert not list(Path(store.base).glob("ranks-*"))


def ranks_of(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that the job runs as ranks."""
    found = []
    for child in psutil.Process(job.pid).children():
        with suppress(psutil.NoSuchProcess):  # others come and go
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


def test_a_rank_that_is_killed_fails_the_job(nights):
    with started(nights, "ranks-killed", *BY_TORCHRUN, "train.epochs=10000") as job:
        try:
            while len(ranks := ranks_of(job)) < 2:
                assert job.poll() is None, job.communicate()
            ranks[-1].send_signal(signal.SIGKILL)
            _, said = job.communicate(timeout=300)
        finally:
            job.kill()
    assert job.returncode == 2, said
    assert "was lost (SIGKILL): run the job again" in said.splitlines()[-1]
    assert not [rank for rank in ranks if rank.is_running()]


def test_ranks_need_a_launcher():
    with pytest.raises(ValueError, match="launcher local is one rank"):
        LaunchConfig(ranks=2)
