"""The data of all rounds: generated logs, the store of last night, and the expected tables.

MLflow's SQLite file holds absolute paths, so the store is always at one path; each round copies the
store of last night there. At any time, a reader who follows the manifests must find every published
table as a night without faults leaves it. Tables of tonight may be missing.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from threading import Event

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.testing import assert_frame_equal

from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from tests.chaos.job import ORDINARY, Job, Setting
from tests.conftest import QUICK_JAVA
from tests.nights import NIGHTS, SMALL, demo, environment

TABLES = ("vocabulary", "examples", "state", "counts", "scores", "refused", "quarantine")
WORDS = [*SMALL, "history.kinds.clicks.age=true", "train.threads=1"]
WORDS += ["launch.launcher=torchrun", "launch.ranks=2"]
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "JAVA_TOOL_OPTIONS": QUICK_JAVA,  # of a cluster's processes too
    # Requests to a killed server are retried for seconds, not for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
LAST_NIGHT, TONIGHT, *_ = NIGHTS

Table = tuple[str, str]
"""Name and date of a published table."""


@dataclass(frozen=True)
class Stage:
    """A work folder, prepared once for all rounds."""

    folder: Path

    @property
    def logs(self) -> Path:
        return self.folder / "out/demo/logs"

    @property
    def store(self) -> Path:
        """The store of the current round."""
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
        """The expected tables after tonight."""
        found = published(self.undisturbed)
        return {key: rows(self.undisturbed, manifest) for key, manifest in found.items()}

    def make_ready(self) -> None:
        """Create the logs and run last night and tonight without faults, unless that is done."""
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
        shutil.rmtree(self.logs, ignore_errors=True)  # left by a killed campaign
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
                over.set()  # there are no expected tables yet
            reader = pool.submit(self._watch, over)
            try:
                yield job
            finally:
                job.kill()
                over.set()
            reader.result()

    def _watch(self, over: Event) -> None:
        """Require, during the night, yesterday unchanged and complete tables of tonight."""
        seen = set()
        before = published(self.yesterday)
        while not over.wait(0.2):
            for key, manifest in published(self.store).items():
                if key in before:
                    assert manifest == before[key], f"{key} is another than yesterday"
                elif manifest.id not in seen:
                    self._require_complete(key, manifest)
                    seen.add(manifest.id)

    def require_complete(self) -> None:
        """Require that yesterday is unchanged and that tonight's tables are complete."""
        found = published(self.store)
        assert set(published(self.yesterday)) <= set(found), "something of yesterday is gone"
        for key, manifest in found.items():
            self._require_complete(key, manifest)

    def require_undisturbed(self) -> None:
        """Require the tables of a night without faults."""
        self.require_complete()
        assert set(published(self.store)) == set(self.tables), "tables are missing"
        facts = [
            Store(str(s)).require("nights", TONIGHT, "").facts
            for s in (self.store, self.undisturbed)
        ]
        assert facts[0] == facts[1], f"the night's record differs:\n{facts[0]}\n{facts[1]}"

    def _require_complete(self, key: Table, manifest: Manifest) -> None:
        try:
            found = rows(self.store, manifest)
        except FileNotFoundError:
            if published(self.store).get(key) != manifest:
                return  # replaced by another run in the meantime
            raise
        assert key in self.tables, f"{key} should not be there"
        assert_frame_equal(found, self.tables[key], rtol=0, atol=1e-6, obj=" of ".join(key))


def published(store: Path) -> dict[Table, Manifest]:
    """The manifest of each table of each date."""
    found = {name: Store(str(store)).manifests(name) for name in TABLES}
    return {(name, m.date): m for name, manifests in found.items() for m in manifests}


def rows(store: Path, manifest: Manifest) -> pd.DataFrame:
    """Return the rows of a manifest, sorted, because their order depends on the writer."""
    paths = [url.removeprefix("file://") for url in Store(str(store)).urls(manifest)]
    table = pa.concat_tables(pq.ParquetFile(path).read() for path in paths)
    plain = [f.name for f in table.schema if pa.types.is_integer(f.type) or f.type == pa.string()]
    assert len(table) == manifest.rows, f"{manifest.id}: {len(table)} rows, not {manifest.rows}"
    return table.to_pandas().sort_values(plain, ignore_index=True)
