"""What a round plays on: generated logs, a store after one night, and what another makes of it.

The store lies at one place always, since MLflow's SQLite holds absolute paths; each round puts
yesterday's there. Whatever happens, a reader who goes by the manifests must find each published
table of a date as the undisturbed night leaves it, or, if it is tonight's, not there yet.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from threading import Event

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.testing import assert_frame_equal

from pipelines.store.store import Manifest, Store
from tests.conftest import QUICK_JAVA
from tests.nights import NIGHTS, SMALL, demo, environment

TABLES = ("vocabulary", "examples", "state", "counts", "scores", "refused", "quarantine")
WORDS = [*SMALL, "history.kinds.clicks.age=true", "train.threads=1"]
WORDS += ["launch.launcher=torchrun", "launch.ranks=2"]
PYTHON = [sys.executable, "-m", "jobs.nightly"]
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "JAVA_TOOL_OPTIONS": QUICK_JAVA,  # of a cluster's processes too
    # A server that is gone is asked again for some seconds, not for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
LAST_NIGHT, TONIGHT, *_ = NIGHTS
PATIENCE = 900
"""Seconds after which a job that does not end is one that hangs."""

Table = tuple[str, str]
"""Name and date of what is published."""


@dataclass(frozen=True)
class Setting:
    """What a night is started with, beside what all are: in a round, the same before and after."""

    command: Sequence[str] = tuple(PYTHON)
    words: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)


ORDINARY = Setting()


@dataclass(frozen=True)
class Job:
    """A night in processes of its own, and the file that holds what it says."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def last(self) -> str:
        return next(reversed(self.said.split("\n")[:-1]), "nothing said")

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):  # it has ended
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def running(self, seconds: float) -> bool:
        """Let it go on for so long; whether it still does."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL of its whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def must_end(self) -> str:
        """Require that it ends well; return a word for the tally."""
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit {status}: {self.last}\n{self.said}"
        return "ended well"

    def must_refuse(self, pattern: str) -> str:
        """Require that it ends with 2 and with one line that says what the pattern does."""
        status = self.process.wait(PATIENCE)
        assert status == 2, f"exit {status}: {self.last}\n{self.said}"
        assert len(self.errors) == 1, self.said
        assert "Traceback" not in self.said, self.said
        assert re.search(pattern, self.errors[0]), f"{pattern} is not in {self.errors[0]}"
        return self.errors[0]

    def must_end_or_refuse(self, pattern: str) -> str:
        """Require one of both: the fault may have come too late to matter, or been made good."""
        return self.must_refuse(pattern) if self.process.wait(PATIENCE) else self.must_end()


@dataclass(frozen=True)
class Stage:
    """A work folder; made ready once, and then used for all rounds."""

    folder: Path

    @property
    def logs(self) -> Path:
        return self.folder / "out/demo/logs"

    @property
    def store(self) -> Path:
        """Where rounds happen."""
        return self.folder / "out/demo/store"

    @property
    def yesterday(self) -> Path:
        """The store after last night."""
        return self.folder / "yesterday"

    @property
    def written(self) -> Path:
        """The logs as they were written."""
        return self.folder / "logs"

    @property
    def undisturbed(self) -> Path:
        """The store after a night without faults."""
        return self.folder / "undisturbed"

    @property
    def is_ready(self) -> bool:
        return (self.folder / "seconds.json").exists()

    @cached_property
    def seconds(self) -> float:
        """How long a night without faults took."""
        return float(json.loads((self.folder / "seconds.json").read_text()))

    @cached_property
    def tables(self) -> dict[Table, pd.DataFrame]:
        """What there must be after tonight."""
        found = published(self.undisturbed)
        return {key: rows(self.undisturbed, manifest) for key, manifest in found.items()}

    def make_ready(self) -> None:
        """Logs, last night, and tonight without a fault; what is there already stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = demo(self.folder)
        if not self.yesterday.exists():
            generate = [sys.executable, "-m", "jobs.generate_logs", "--config", config, *WORDS]
            subprocess.run(generate, env=environment(), cwd=self.folder, check=True)
            shutil.copytree(self.logs, self.written, dirs_exist_ok=True)
            shutil.rmtree(self.store, ignore_errors=True)
            with self.night(day=LAST_NIGHT) as job:
                job.must_end()
            shutil.copytree(self.store, self.yesterday)
        if not self.is_ready:
            self.restore()
            began = time.monotonic()
            with self.night() as job:
                job.must_end()
            shutil.rmtree(self.undisturbed, ignore_errors=True)
            shutil.copytree(self.store, self.undisturbed)
            (self.folder / "seconds.json").write_text(json.dumps(time.monotonic() - began))

    def restore(self) -> None:
        """Restore yesterday's store, and the logs, which an earlier campaign may have damaged."""
        shutil.rmtree(self.logs, ignore_errors=True)  # or it was cut here
        shutil.copytree(self.written, self.logs)
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.yesterday, self.store, dirs_exist_ok=True)  # it may be a disk's root

    @contextmanager
    def night(self, setting: Setting = ORDINARY, day: date = TONIGHT) -> Iterator[Job]:
        """Start a night, watched by a reader; it is killed where the block ends before it does."""
        log = self.folder / f"said-{time.time_ns()}.txt"
        command = [*setting.command, "--config", str(self.folder / "demo.yaml")]
        command += ["--date", str(day), *WORDS, *setting.words]
        env = environment() | ENVIRONMENT | setting.env
        with ThreadPoolExecutor(1) as pool, log.open("w") as out, subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=out, stderr=out, start_new_session=True
        ) as process:  # fmt: skip
            job, over = Job(process, log), Event()
            if day != TONIGHT or not self.is_ready:
                over.set()  # what is read meanwhile is just being made
            reader = pool.submit(self._watch, over)
            try:
                yield job
            finally:
                job.kill()
                over.set()
            reader.result()

    def _watch(self, over: Event) -> None:
        """What a reader sees meanwhile: yesterday as it was, and of tonight what is whole."""
        seen = set()
        before = published(self.yesterday)
        while not over.wait(0.2):
            for key, manifest in published(self.store).items():
                if key in before:
                    assert manifest == before[key], f"{key} is another than yesterday"
                elif manifest.id not in seen:
                    self._require_whole(key, manifest)
                    seen.add(manifest.id)

    def require_whole(self) -> None:
        """Require that all of yesterday reads as it did, and of tonight what is published."""
        found = published(self.store)
        assert set(published(self.yesterday)) <= set(found), "something of yesterday is gone"
        for key, manifest in found.items():
            self._require_whole(key, manifest)

    def require_undisturbed(self) -> None:
        """Require that what is published now is what a night without faults publishes."""
        self.require_whole()
        assert set(published(self.store)) == set(self.tables), "tables are missing"
        facts = [
            Store(str(s)).require("nights", TONIGHT, "").facts
            for s in (self.store, self.undisturbed)
        ]
        assert facts[0] == facts[1], f"the night's record differs:\n{facts[0]}\n{facts[1]}"

    def _require_whole(self, key: Table, manifest: Manifest) -> None:
        try:
            found = rows(self.store, manifest)
        except FileNotFoundError:
            if published(self.store).get(key) != manifest:
                return  # another run has taken its place meanwhile
            raise
        assert key in self.tables, f"{key} should not be there"
        assert_frame_equal(found, self.tables[key], rtol=0, atol=1e-6, obj=" of ".join(key))


def published(store: Path) -> dict[Table, Manifest]:
    """The manifest of each table of each date."""
    found = {name: Store(str(store)).manifests(name) for name in TABLES}
    return {(name, m.date): m for name, manifests in found.items() for m in manifests}


def rows(store: Path, manifest: Manifest) -> pd.DataFrame:
    """What a manifest shows, in an order that does not hang on how it was written."""
    paths = [url.removeprefix("file://") for url in Store(str(store)).urls(manifest)]
    table = pa.concat_tables(pq.ParquetFile(path).read() for path in paths)
    plain = [f.name for f in table.schema if pa.types.is_integer(f.type) or f.type == pa.string()]
    assert len(table) == manifest.rows, f"{manifest.id}: {len(table)} rows, not {manifest.rows}"
    return table.to_pandas().sort_values(plain, ignore_index=True)
