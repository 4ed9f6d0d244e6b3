"""The tools of the faults: processes killed, a disk that is full, files that are damaged."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.chaos.stage import Job


class ImpossibleError(Exception):
    """What this machine lacks for a fault: it is skipped, and that is told."""


def kill_one(
    job: Job, name: str, seconds: float, rng: random.Random, busy: bool = False,
    of: psutil.Process | None = None,
) -> None:  # fmt: skip
    """SIGKILL one of the job's processes of that name, so long after the first has been seen.

    Args:
        job: whose process is killed.
        name: the name of the process.
        seconds: how long it lives after it has been seen.
        rng: chooses among several.
        busy: one that computes at the moment.
        of: whose child it is, where it is not the job's.
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
    with suppress(psutil.NoSuchProcess):  # others come and go
        named = any(name in word for word in process.cmdline())
        return named and (not busy or process.status() == psutil.STATUS_RUNNING)
    return False


@contextmanager
def mounted(place: Path, size: int) -> Iterator[Callable[[], None]]:
    """A disk of so many bytes at a place; what is yielded gives it room enough."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o"]
    done = subprocess.run([*mount, f"size={size}", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        raise ImpossibleError(f"no disk to fill: mount -t tmpfs: {done.stderr.decode().strip()}")
    try:
        yield lambda: subprocess.run([*mount, "remount,size=1g", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def size_of(folder: Path) -> int:
    """What a folder takes on a disk that deals out pages."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in files)


def truncated(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(1, len(whole))]


def flipped(whole: bytes, rng: random.Random) -> bytes:
    """One bit of the end, which says where a reader begins, the other way.

    Not any bit of the rows: neither what Spark writes without Hadoop's list beside it nor what the
    project writes (pyarrow 14) has checksums of its pages that a reader looks at.
    """
    place = len(whole) - 1 - rng.randrange(8)
    return whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
