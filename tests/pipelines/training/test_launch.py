"""Ranks as real processes, started in every way there is: one model, and no lost rank unnoticed."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from din_model.registry import tracking, versions
from pipelines.training.launch import LaunchConfig
from tests.jobs.cluster import SPARK, cluster
from tests.nights import DEMO, NIGHTS, SMALL, environment

BY_TORCHRUN = ["launch.launcher=torchrun", "launch.ranks=2"]
BY_SPARK = ["launch.launcher=spark", "launch.ranks=2"]
JOB = [sys.executable, "-m", "jobs.train"]


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as address:
        yield address


def started(nights, model: str, *words: str, command=JOB) -> subprocess.Popen[str]:
    """jobs.train on the last night's window, in a process of its own."""
    _, store, _ = nights
    config = Path(store.base).parents[2] / "demo.yaml"
    command = [*command, "--config", str(config), "--date", str(NIGHTS[-1])]
    command += [*SMALL, "history.kinds.clicks.age=true", "train.threads=1"]
    command += [f"tracking.model={model}", *words]
    return subprocess.Popen(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def trained(nights, model: str, *words: str, command=JOB) -> tuple[int, str]:
    """The exit status of jobs.train, and what it said on standard error."""
    with started(nights, model, *words, command=command) as job:
        try:
            _, said = job.communicate(timeout=300)
        finally:
            job.kill()
    return job.returncode, said


def weights(model: str) -> dict[str, torch.Tensor]:
    return versions.load(model, 1)[0].state_dict()


def same(model: str, undisturbed: dict[str, torch.Tensor]) -> None:
    """The model has these very weights."""
    for name, value in weights(model).items():
        assert torch.equal(value, undisturbed[name]), (model, name)


def submitted(address: str) -> list[str]:
    """In place of JOB: spark-submit to a cluster."""
    submit = [str(SPARK / "bin" / "spark-submit"), "--master", address]
    for setting in (
        "spark.executor.cores=1",
        "spark.executor.memory=700m",
        "spark.ui.enabled=false",
    ):
        submit += ["--conf", setting]
    return [*submit, str(DEMO.parents[1] / "jobs" / "train.py")]


@pytest.mark.slow
def test_every_launcher_gives_the_same_model(nights):
    torchrun = [str(Path(sys.executable).parent / "torchrun"), "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "jobs.train"]
    ways = {"agent": (JOB, BY_TORCHRUN), "spark": (JOB, BY_SPARK), "torchrun": (torchrun, [])}
    for model, (command, words) in ways.items():
        status, said = trained(nights, model, *words, command=command)
        assert status == 0, said
        _, facts = versions.load(model, 1)
        assert facts.rows_read == facts.rows > 0
        same(model, weights("agent"))


@pytest.mark.slow
def test_a_model_trained_on_sharded_tables_is_whole_where_one_rank_loads_it(nights):
    pytest.importorskip("torchrec", exc_type=ImportError)
    words = ["train.embedding_engine=sharded", "train.embedding_optimizer=adagrad"]
    words += ["train.embedding_learning_rate=0.1", "train.regularisation=0"]
    status, said = trained(nights, "ranks-sharded", *BY_TORCHRUN, *words)
    assert status == 0, said
    model, facts = versions.load("ranks-sharded", 1)
    assert facts.rows_read == facts.rows > 0
    for table, size in model.tables.sizes.items():
        assert model.tables.weight(table).shape == size
    assert facts.metrics["din"]["auc"] > facts.metrics["popularity"]["auc"] + 0.03


@pytest.mark.parametrize("launcher", [BY_TORCHRUN, pytest.param(BY_SPARK, marks=pytest.mark.slow)])
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
    assert status == 2, said
    assert len(lines) == 1, said
    assert "error: rank " in lines[0]
    assert missing.name in lines[0]
    assert "listed in the manifest but missing" in lines[0]
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


def test_sigterm_ends_the_job_and_its_ranks_with_one_line(nights):
    with started(nights, "ranks-terminated", *BY_TORCHRUN, "train.epochs=10000") as job:
        try:
            while len(ranks := ranks_of(job)) < 2:
                assert job.poll() is None, job.communicate()
            job.terminate()
            _, said = job.communicate(timeout=120)
        finally:
            job.kill()
    assert job.returncode == 143, said
    assert said.startswith("ended by SIGTERM"), said
    assert len(said.splitlines()) == 1, said
    assert not [rank for rank in ranks if rank.is_running()]


def test_ranks_need_a_launcher():
    with pytest.raises(ValueError, match="launcher local has one rank"):
        LaunchConfig(ranks=2)


AGENT = "torch.distributed.run"
LONG = ["train.epochs=30", "train.patience=0", "train.checkpoint_every=20"]


@pytest.mark.slow
def test_a_cluster_gives_the_same_model(nights, undisturbed, master):
    status, said = trained(nights, "ranks-cluster", *BY_SPARK, *LONG, command=submitted(master))
    assert status == 0, said
    same("ranks-cluster", undisturbed)


def after_a_checkpoint(job: subprocess.Popen[str], store) -> None:
    """Wait until the job has written one down."""
    while not list(Path(store.base).glob("checkpoints/*/latest.json")):
        assert job.poll() is None, job.communicate()


@pytest.fixture(scope="module")
def undisturbed(nights) -> dict[str, torch.Tensor]:
    settings, store, _ = nights
    tracking.connect(settings.tracking, store.url)
    status, said = trained(nights, "ranks-long", *BY_TORCHRUN, *LONG)
    assert status == 0, said
    return weights("ranks-long")


@pytest.mark.slow
def test_ranks_that_begin_again_go_on_to_the_same_weights(nights, undisturbed):
    _, store, _ = nights
    words = [*BY_TORCHRUN, *LONG, "launch.restarts=1"]
    with started(nights, "ranks-restarted", *words) as job:
        try:
            after_a_checkpoint(job, store)
            ranks_of(job)[-1].send_signal(signal.SIGKILL)
            _, said = job.communicate(timeout=300)
        finally:
            job.kill()
    assert job.returncode == 0, said
    same("ranks-restarted", undisturbed)
    assert not list(Path(store.base).glob("checkpoints/*"))


@pytest.mark.slow
def test_a_job_that_is_killed_leaves_no_rank_and_goes_on_when_run_again(nights, undisturbed):
    _, store, _ = nights
    with started(nights, "ranks-orphaned", *BY_TORCHRUN, *LONG) as job:
        after_a_checkpoint(job, store)
        ranks = ranks_of(job)
        job.kill()
        job.communicate(timeout=60)
    assert len(ranks) == 2
    psutil.wait_procs(ranks, timeout=60)
    assert not [rank for rank in ranks if rank.is_running()]
    status, said = trained(nights, "ranks-orphaned", *BY_TORCHRUN, *LONG)
    assert status == 0, said
    same("ranks-orphaned", undisturbed)


@pytest.mark.slow
def test_a_spark_task_that_is_killed_fails_the_job(nights, undisturbed, master):
    _, store, _ = nights
    once = ["--conf", "spark.stage.maxConsecutiveAttempts=1"]
    command = submitted(master)
    with started(
        nights, "ranks-task", *BY_SPARK, *LONG, command=[*command[:-1], *once, command[-1]]
    ) as job:
        try:
            after_a_checkpoint(job, store)
            # The Python worker of an executor runs its rank as a child.
            agents = [
                p for p in psutil.process_iter(["cmdline"]) if AGENT in (p.info["cmdline"] or [])
            ]
            agents[-1].parent().send_signal(signal.SIGKILL)
            said, log = job.communicate(timeout=300)  # spark-submit merges a driver's two streams
        finally:
            job.kill()
    assert job.returncode == 2, said + log
    assert "a Spark task of the training was lost" in said, said + log
    status, said = trained(nights, "ranks-task", *BY_SPARK, *LONG, command=command)
    assert status == 0, said
    same("ranks-task", undisturbed)
