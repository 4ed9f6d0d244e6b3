"""Faults that kill a process: of the job, of Spark, of a training, or of a service."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.chaos.job import ORDINARY, Job, Setting
from tests.chaos.round import Outcome, Round
from tests.chaos.services import Services
from tests.jobs.cluster import SPARK, cluster
from tests.nights import DEMO

TRACKING = r"tracking: "


LOST = r"was lost .*: run the job again"


@contextmanager
def driver_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of the job's process group at a random moment."""
    with at.stage.night() as job:
        seconds = at.rng.uniform(0.05, 1) * at.stage.seconds
        said = f"killed after {seconds:.0f} s" if job.running(seconds) else "had ended"
    yield ORDINARY, said


@contextmanager
def worker_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of a busy Python worker of a local session."""
    with at.stage.night() as job:
        kill_one(
            job, "pyspark.daemon", at.rng.uniform(0, 0.8) * at.stage.seconds, at.rng, busy=True
        )
        said = job.must_end_or_refuse(LOST)
    yield ORDINARY, said


@contextmanager
def executor_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of an executor of a cluster; Spark may recover."""
    folder = at.stage.folder / "cluster"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with cluster(folder) as master:
        submit = [str(SPARK / "bin" / "spark-submit"), "--master", master]
        for conf in ("executor.cores=1", "executor.memory=700m", "ui.enabled=false"):
            submit += ["--conf", f"spark.{conf}"]
        submit += ["--conf", "spark.sql.shuffle.partitions=4"]
        submit.append(str(DEMO.parents[1] / "jobs" / "nightly.py"))
        setting = Setting(submit, ["launch.launcher=spark"])
        with at.stage.night(setting) as job:
            seconds = at.rng.uniform(0, 0.8) * at.stage.seconds
            kill_one(job, "CoarseGrainedExecutorBackend", seconds, at.rng, of=psutil.Process())
            said = job.must_end_or_refuse(LOST)
        yield setting, said


@contextmanager
def rank_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of a rank without restarts: the job fails with one line."""
    with at.stage.night() as job:
        kill_one(job, "spawn_main", at.rng.uniform(0, 0.05) * at.stage.seconds, at.rng)
        said = job.must_refuse(r"rank \d of the training was lost \(SIGKILL\): run the job again")
    yield ORDINARY, said


@contextmanager
def rank_restarted(at: Round) -> Iterator[Outcome]:
    """SIGKILL of a rank with restarts: the night succeeds."""
    setting = Setting(words=["launch.restarts=1", "train.checkpoint_every=5"])
    with at.stage.night(setting) as job:
        kill_one(job, "spawn_main", at.rng.uniform(0, 0.05) * at.stage.seconds, at.rng)
        said = job.must_end()
    yield setting, said


@contextmanager
def tracking_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of the MLflow server at a random moment; it runs again for the rerun."""
    with at.services.begun() as services:
        yield from _service_killed(
            at, services, services.kill_tracking, services.start_tracking, TRACKING
        )


@contextmanager
def postgres_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of PostgreSQL with runs and scores, at a random moment."""
    with at.services.begun() as services:
        server = services.postgres
        refused = f"{TRACKING}|score.postgres: "
        yield from _service_killed(at, services, server.kill, server.start, refused)


def _service_killed(
    at: Round, services: Services, kill: Callable[[], None], start: Callable[[], None], refused: str
) -> Iterator[Outcome]:
    """Kill a service at a random moment of a night, and start it again for the rerun.

    Args:
        at: the round.
        services: that the night uses.
        kill: kills the service.
        start: starts it again.
        refused: pattern of the error that may end the night.
    """
    with at.stage.night(services.setting) as job:
        job.running(at.rng.uniform(0, 1) * at.stage.seconds)
        kill()
        said = job.must_end_or_refuse(refused)
    start()
    yield services.setting, said
    services.require_delivered()


@contextmanager
def delivery_broken(at: Round) -> Iterator[Outcome]:
    """SIGKILL of PostgreSQL once a job delivers scores; runs are in SQLite."""
    with at.services.begun() as services:
        with at.stage.night(services.delivery) as job:
            while not services.delivering() and job.running(0.02):
                pass
            services.postgres.kill()
            said = job.must_end_or_refuse("score.postgres: ")
        services.postgres.start()
        yield services.delivery, said
        services.require_delivered()


def kill_one(
    job: Job, name: str, seconds: float, rng: random.Random, busy: bool = False,
    of: psutil.Process | None = None,
) -> None:  # fmt: skip
    """Send SIGKILL to one of the job's processes of a name, some time after the first appears.

    Args:
        job: the job.
        name: the name of the process.
        seconds: time from the first process of the name to the kill.
        rng: chooses among several.
        busy: only a process that is running at the moment.
        of: the ancestor to search, if it is not the job.
    """

    def found() -> list[psutil.Process]:
        processes = of.children(recursive=True) if of else job.children()
        return [p for p in processes if _is(p, name, busy)]

    while not found() and job.running(0.05):
        pass
    job.running(seconds)
    while job.running(0.01):
        if processes := found():
            with suppress(psutil.NoSuchProcess):
                rng.choice(processes).kill()
                return


def _is(process: psutil.Process, name: str, busy: bool) -> bool:
    with suppress(psutil.NoSuchProcess):  # processes end at any time
        named = any(name in word for word in process.cmdline())
        return named and (not busy or process.status() == psutil.STATUS_RUNNING)
    return False
