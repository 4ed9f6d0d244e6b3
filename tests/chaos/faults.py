"""All faults of a campaign, and the order in which its rounds play them.

A fault is a context manager. It starts the night, disturbs it, requires that the job ends as it
should, and repairs the cause. It yields how to run the night again, and at exit removes what it
needed for that.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tests.chaos.file_faults import (
    disk_full,
    log_flipped,
    log_truncated,
    store_flipped,
    store_truncated,
)  # fmt: skip
from tests.chaos.job import ORDINARY, PATIENCE
from tests.chaos.process_faults import (
    delivery_broken,
    driver_killed,
    executor_killed,
    postgres_killed,
    rank_killed,
    rank_restarted,
    tracking_killed,
    worker_killed,
)  # fmt: skip
from tests.chaos.round import Fault, Outcome, Round, UnavailableError


@contextmanager
def clock_wrong(at: Round) -> Iterator[Outcome]:
    """A clock that is an hour slow or fast: published data must not depend on it."""
    if not shutil.which("faketime"):
        raise UnavailableError("no faketime: apt-get install faketime")
    hour = at.rng.choice(["-1h", "+1h"])
    command = ["faketime", "-f", hour, *ORDINARY.command]
    with at.stage.night(replace(ORDINARY, command=command)) as job:
        said = job.must_end()
    yield ORDINARY, said


@contextmanager
def started_twice(at: Round) -> Iterator[Outcome]:
    """The same night twice at once: one runs, the other is refused."""
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
    """Return the fault of each round: all faults in a random order, then in another, and so on."""
    rng, drawn = random.Random(seed), list[Fault]()
    while len(drawn) < rounds:
        drawn += rng.sample(faults, len(faults))
    return drawn[:rounds]
