"""Faults of the disk: a full one, and files that are truncated or damaged."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.ingest.logs import DAY
from pipelines.store.store import Store
from tests.chaos.job import ORDINARY
from tests.chaos.round import Outcome, Round, UnavailableError
from tests.chaos.stage import LAST_NIGHT, TONIGHT

Damage = Callable[[bytes, random.Random], bytes]


NAMELESS = r"a Parquet file cannot be read .* Spark does not say which"


FULL = r"[Nn]o space left on device|database or disk is full"


@contextmanager
def disk_full(at: Round) -> Iterator[Outcome]:
    """A disk with room for only a part of a night's data."""
    held, wanted = size_of(at.stage.yesterday), size_of(at.stage.undisturbed)
    with mounted(at.stage.store, held + round(at.rng.uniform(0.05, 0.9) * (wanted - held))) as grow:
        at.stage.restore()
        with at.stage.night() as job:
            said = job.must_refuse(FULL)
        grow()
        yield ORDINARY, said


@contextmanager
def log_truncated(at: Round) -> Iterator[Outcome]:
    """A truncated Parquet file of tonight's logs."""
    yield from _damaged(at, _a_log(at), truncated)


@contextmanager
def log_flipped(at: Round) -> Iterator[Outcome]:
    """A Parquet file of tonight's logs with one bit flipped."""
    yield from _damaged(at, _a_log(at), flipped)


@contextmanager
def store_truncated(at: Round) -> Iterator[Outcome]:
    """A truncated published file."""
    yield from _damaged(at, _published(at), truncated)


@contextmanager
def store_flipped(at: Round) -> Iterator[Outcome]:
    """A published file with one bit flipped."""
    yield from _damaged(at, _published(at), flipped)


def _a_log(at: Round) -> Path:
    """Choose a log file that tonight reads; remove Hadoop's checksum, which few logs have."""
    read = f"items/date={TONIGHT}", f"users/date={TONIGHT}", f"candidates/date={TONIGHT + DAY}"
    files = [p for name in (*read, "history") for p in at.stage.logs.glob(f"{name}/*.parquet")]
    file = at.rng.choice(sorted(files))
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    return file


def _published(at: Round) -> Path:
    """Choose a published file that tonight reads: state, examples, counts or vocabulary."""
    name = at.rng.choice(["state", "examples", "counts", "vocabulary"])
    store = Store(str(at.stage.store))
    url = at.rng.choice(store.urls(store.require(name, LAST_NIGHT, "")))
    return Path(url.removeprefix("file://"))


def _damaged(at: Round, file: Path, damage: Damage) -> Iterator[Outcome]:
    """Run the night with the file damaged, and then restore it."""
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(damage(content, at.rng))
    try:
        with at.stage.night() as job:
            said = job.must_refuse(f"{file.name}: cannot be read|{NAMELESS}")
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield ORDINARY, said


@contextmanager
def mounted(place: Path, size: int) -> Iterator[Callable[[], None]]:
    """Mount a disk of this size; yield a function that enlarges it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o"]
    done = subprocess.run([*mount, f"size={size}", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        raise UnavailableError(f"no disk to fill: mount -t tmpfs: {done.stderr.decode().strip()}")
    try:
        yield lambda: subprocess.run([*mount, "remount,size=1g", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def size_of(folder: Path) -> int:
    """Return the size of a folder on a disk that allocates pages."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in files)


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Flip one bit of the last 8 bytes, which tell a reader where the footer begins.

    A flipped bit of the rows would go unnoticed: readers check no checksums of the pages that Spark
    and pyarrow 14 write.
    """
    place = len(content) - 1 - rng.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
