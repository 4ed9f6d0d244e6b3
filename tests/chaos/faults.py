"""What can go wrong in a night, each as one function: it does the harm, and looks what came of it.

A fault is a context: it starts the night, strikes, requires that the job ends as it should, and
puts the cause right. Then it yields how the night is to be run again, and at last clears away what
it needed for that.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pipelines.ingest.logs import DAY
from pipelines.store.store import Store
from tests.chaos.harm import ImpossibleError, flipped, kill_one, mounted, size_of, truncated
from tests.chaos.services import Services
from tests.chaos.stage import LAST_NIGHT, ORDINARY, PATIENCE, TONIGHT, Setting, Stage
from tests.jobs.cluster import SPARK, cluster
from tests.nights import DEMO


@dataclass(frozen=True)
class Round:
    """What a fault has to play with."""

    stage: Stage
    services: Services
    rng: random.Random


Outcome = tuple[Setting, str]
"""How the night is to be run again, and what the disturbed one ended with."""

Fault = Callable[[Round], AbstractContextManager[Outcome]]
Harm = Callable[[bytes, random.Random], bytes]

TRACKING = r"tracking: "
LOST = r"was lost .*: run the job again"
NAMELESS = r"a Parquet file cannot be read .* Spark does not say which"
FULL = r"[Nn]o space left on device|database or disk is full"


@contextmanager
def driver_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of the job's process group at a random moment."""
    with at.stage.night() as job:
        seconds = at.rng.uniform(0.05, 1) * at.stage.seconds
        said = f"killed after {seconds:.0f} s" if job.running(seconds) else "had ended"
    yield ORDINARY, said


@contextmanager
def worker_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of a Python worker of a local session, while it works."""
    with at.stage.night() as job:
        kill_one(
            job, "pyspark.daemon", at.rng.uniform(0, 0.8) * at.stage.seconds, at.rng, busy=True
        )
        said = job.must_end_or_refuse(LOST)
    yield ORDINARY, said


@contextmanager
def executor_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of an executor of a cluster, which is Spark's to make good."""
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
    """SIGKILL of a rank where none begins again: the job fails, and says so."""
    with at.stage.night() as job:
        kill_one(job, "spawn_main", at.rng.uniform(0, 0.05) * at.stage.seconds, at.rng)
        said = job.must_refuse(r"rank \d of the training was lost \(SIGKILL\): run the job again")
    yield ORDINARY, said


@contextmanager
def rank_restarted(at: Round) -> Iterator[Outcome]:
    """SIGKILL of a rank where all begin again: the night ends as if nothing had been."""
    setting = Setting(words=["launch.restarts=1", "train.checkpoint_every=5"])
    with at.stage.night(setting) as job:
        kill_one(job, "spawn_main", at.rng.uniform(0, 0.05) * at.stage.seconds, at.rng)
        said = job.must_end()
    yield setting, said


@contextmanager
def tracking_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of the MLflow server at a random moment; it is there again for the rerun."""
    with at.services.begun() as services:
        with at.stage.night(services.setting) as job:
            job.running(at.rng.uniform(0, 1) * at.stage.seconds)
            services.kill_tracking()
            said = job.must_end_or_refuse(TRACKING)
        services.start_tracking()
        yield services.setting, said
        services.require_delivered()


@contextmanager
def postgres_killed(at: Round) -> Iterator[Outcome]:
    """SIGKILL of PostgreSQL, which holds runs and scores, at a random moment."""
    with at.services.begun() as services:
        with at.stage.night(services.setting) as job:
            job.running(at.rng.uniform(0, 1) * at.stage.seconds)
            services.postgres.kill()
            said = job.must_end_or_refuse(f"{TRACKING}|score.postgres: ")
        services.postgres.start()
        yield services.setting, said
        services.require_delivered()


@contextmanager
def delivery_broken(at: Round) -> Iterator[Outcome]:
    """SIGKILL of PostgreSQL as soon as scores are on their way there; runs are in SQLite."""
    with at.services.begun() as services:
        with at.stage.night(services.delivery) as job:
            while not services.delivering() and job.running(0.02):
                pass
            services.postgres.kill()
            said = job.must_end_or_refuse("score.postgres: ")
        services.postgres.start()
        yield services.delivery, said
        services.require_delivered()


@contextmanager
def disk_full(at: Round) -> Iterator[Outcome]:
    """A store on a disk with room for a part of what a night writes."""
    held, wanted = size_of(at.stage.yesterday), size_of(at.stage.undisturbed)
    with mounted(at.stage.store, held + round(at.rng.uniform(0.05, 0.9) * (wanted - held))) as grow:
        at.stage.restore()
        with at.stage.night() as job:
            said = job.must_refuse(FULL)
        grow()
        yield ORDINARY, said


@contextmanager
def log_truncated(at: Round) -> Iterator[Outcome]:
    """A Parquet file of tonight's logs that ends too early."""
    yield from _damaged(at, _a_log(at), truncated)


@contextmanager
def log_flipped(at: Round) -> Iterator[Outcome]:
    """A Parquet file of tonight's logs with a bit the other way."""
    yield from _damaged(at, _a_log(at), flipped)


@contextmanager
def store_truncated(at: Round) -> Iterator[Outcome]:
    """A published file that ends too early."""
    yield from _damaged(at, _published(at), truncated)


@contextmanager
def store_flipped(at: Round) -> Iterator[Outcome]:
    """A published file with a bit the other way."""
    yield from _damaged(at, _published(at), flipped)


@contextmanager
def clock_wrong(at: Round) -> Iterator[Outcome]:
    """A machine whose clock is an hour early or late: nothing published hangs on it."""
    if not shutil.which("faketime"):
        raise ImpossibleError("no faketime: apt-get install faketime")
    hour = at.rng.choice(["-1h", "+1h"])
    command = ["faketime", "-f", hour, *ORDINARY.command]
    with at.stage.night(replace(ORDINARY, command=command)) as job:
        said = job.must_end()
    yield ORDINARY, said


@contextmanager
def started_twice(at: Round) -> Iterator[Outcome]:
    """The same night twice at once: one does it, the other says so and ends."""
    with at.stage.night() as one, at.stage.night() as other:
        both = (one, other)
        refused = next((job for job in both if job.process.wait(PATIENCE) == 2), one)
        said = refused.must_refuse("another night is running in this store")
        next(job for job in both if job is not refused).must_end()
    yield ORDINARY, said


FAULTS: list[Fault] = [
    driver_killed, worker_killed, executor_killed, rank_killed, rank_restarted, tracking_killed,
    postgres_killed, delivery_broken, disk_full, log_truncated, log_flipped, store_truncated,
    store_flipped, clock_wrong, started_twice,
]  # fmt: skip


def plan(seed: int, rounds: int, faults: Sequence[Fault]) -> list[Fault]:
    """What each round does: all faults in a drawn order, then all in another, and so on."""
    rng, drawn = random.Random(seed), list[Fault]()
    while len(drawn) < rounds:
        drawn += rng.sample(faults, len(faults))
    return drawn[:rounds]


def _a_log(at: Round) -> Path:
    """One that tonight reads; Hadoop's checksums beside it go, since few logs have them."""
    read = f"items/date={TONIGHT}", f"users/date={TONIGHT}", f"candidates/date={TONIGHT + DAY}"
    files = [p for name in (*read, "history") for p in at.stage.logs.glob(f"{name}/*.parquet")]
    file = at.rng.choice(sorted(files))
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    return file


def _published(at: Round) -> Path:
    """One that tonight reads: yesterday's state, or what is trained on, counted, or known."""
    name = at.rng.choice(["state", "examples", "counts", "vocabulary"])
    store = Store(str(at.stage.store))
    url = at.rng.choice(store.urls(store.require(name, LAST_NIGHT, "")))
    return Path(url.removeprefix("file://"))


def _damaged(at: Round, file: Path, harm: Harm) -> Iterator[Outcome]:
    """Run the night with the file harmed, and then mend it."""
    whole, times = file.read_bytes(), file.stat()
    file.write_bytes(harm(whole, at.rng))
    try:
        with at.stage.night() as job:
            said = job.must_refuse(f"{file.name}: cannot be read|{NAMELESS}")
    finally:
        file.write_bytes(whole)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield ORDINARY, said
