"""Where data sets lie and how they are published. No other module builds such paths.

A data set is a Delta table ``NAME``, partitioned by date and by run: ``date=D/run=R/*.parquet``. A
job writes a run under a name of its own, checks it, and publishes it in one transaction in place of
the date's last run. What a run was made of and its counts are a row of the table ``publications``,
which is written just before the run is published: a row whose run is in no data set is that of a
job that was killed in between.
"""

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pyspark.sql import DataFrame, SparkSession

from din_model.config import Section
from din_model.errors import InputError
from din_model.ranges import Duration
from din_model.training.checkpoint import LATEST
from pipelines.access.files import escaped
from pipelines.store.data_sets import DATA_SETS, ERASURES, PINS
from pipelines.store.delta import File, Table
from pipelines.store.location import Location
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import Prepare, write
from pipelines.store.publishing import Publication, collect

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints of unfinished trainings, by the fingerprint of their model."""

PUBLICATIONS = "publications"
"""Table of all runs, also of superseded ones."""

RECORD = "facts.parquet"
"""File of a run without rows."""

STAMP = "%Y%m%dT%H%M%S"
"""Time format at the start of a run's name."""

Runs = dict[date, str]
"""The published run of each date of a data set."""


@dataclass(frozen=True)
class StoreConfig(Section):
    """The root of everything that the pipeline writes.

    Attributes:
        path: folder, or any address that Spark and fsspec support; ``${VARIABLE}`` is replaced.
        keep: how long a superseded run is kept for readers that have opened it; see jobs.vacuum.
    """

    path: str
    keep: Duration = "7d"


class Store:
    """All data sets below one root folder.

    Args:
        root: the folder.
        as_of: a time; what was published then is read, and nothing can be published.
    """

    def __init__(self, root: str, as_of: datetime | None = None) -> None:
        self._root, self._as_of = root, as_of
        self._location = Location.of(root, "store.path")
        self.fs, self.base = self._location.fs, self._location.base
        self.url = self._location.url
        self._tables: dict[str, Table] = {}
        self._manifests: dict[str, Manifest] = {}
        self._seen: dict[str, Runs] | None = None

    def at(self, moment: datetime) -> "Store":
        """Return the store as it was at a moment, to read from."""
        return Store(self._root, moment)

    def manifest(self, name: str, day: date) -> Manifest | None:
        """Return the manifest of the date, or None.

        Raises:
            InputError: another format version, or an unreadable record.
        """
        run = self._runs(name).get(day)
        return None if run is None else self._manifest(name, day, run)

    def require(self, name: str, day: date, way_out: str) -> Manifest:
        """Return the manifest of a date; ``way_out`` says what to do if there is none."""
        manifest = self.manifest(name, day)
        if manifest is None:
            raise InputError(f"{self.url}/{name}: nothing is published for {day}: {way_out}")
        return manifest

    def dates(self, name: str) -> list[date]:
        """Return the published dates of a data set, in order."""
        return list(self._runs(name))

    def before(self, name: str, day: date) -> Manifest | None:
        """Return the newest manifest of a date before ``day``."""
        earlier = [each for each in self.dates(name) if each < day]
        return self.manifest(name, earlier[-1]) if earlier else None

    def manifests(self, name: str) -> list[Manifest]:
        """Return the manifests of all published dates, in order."""
        return [self._manifest(name, day, run) for day, run in self._runs(name).items()]

    def urls(self, manifest: Manifest) -> list[str]:
        """Return the address of each file, in the manifest's order."""
        return [f"{self.url}/{manifest.folder}/{file.path}" for file in manifest.files]

    def read(self, spark: SparkSession, manifests: Sequence[Manifest]) -> DataFrame:
        """Return the rows of runs: published, superseded, or about to be published.

        Raises:
            InputError: the size of a file differs from its manifest. Spark would read a file
                emptied by a power failure as no rows.
        """
        for manifest in manifests:
            self._require_sizes(manifest)
        urls = [url for manifest in manifests for url in self.urls(manifest)]
        return spark.read.parquet(*map(escaped, urls))

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Be the one job that builds: builds depend on the ids and states of earlier ones."""
        with self.locked("writer", "another job is building in this store"), self.job():
            yield

    @contextmanager
    def job(self) -> Iterator[None]:
        """Let what is published within rest on what was published when the job began.

        A publication fails if somebody else has published the date since (for a data set whose
        dates are chained, any date) or has erased users.
        """
        self._seen = {name: self._runs(name) for name in DATA_SETS}
        try:
            yield
        finally:
            self._seen = None

    @contextmanager
    def locked(self, name: str, busy: str) -> Iterator[None]:
        """Hold the lock of that name on local disk, which ends with its process.

        Elsewhere nothing is locked: there, transactions alone decide who publishes.

        Raises:
            InputError: another job holds the lock; ``busy`` describes it.
        """
        if not self._location.local:
            yield
            return
        self.fs.makedirs(self.base, exist_ok=True)
        try:
            held = FileLock(f"{self.base}/.{name}.lock").acquire(timeout=0)
        except Timeout:
            raise InputError(f"{self.url}: {busy}: run again when it has ended") from None
        with held:
            yield

    # Seven parameters: the last three are rarely needed, and have defaults.
    def publish(
        self,
        name: str,
        day: date,
        rows: DataFrame | None,
        facts: dict[str, Any],
        check: Callable[[Manifest], None] = lambda _: None,
        prepare: Prepare = iter,
        replaces: Manifest | None = None,
    ) -> Manifest:
        """Write ``rows``, check the files, and publish them in place of the date's last run.

        Args:
            name: the data set.
            day: the date.
            rows: None for a record without rows.
            facts: recorded in the manifest.
            check: raises if the written files are wrong; then the last published run stays and the
                new folder is removed. It may add to the manifest's facts.
            prepare: see parquet.write.
            replaces: the run that these rows remain of after an erasure; the new run keeps its id.

        Raises:
            InputError: somebody else published the date, or erased users; see ``job``.
        """
        assert self._as_of is None, "an earlier version is read only"
        made_of = facts.get(PINS, {}).keys()
        assert not made_of or made_of <= set(DATA_SETS[name].upstream), f"{name}: {made_of}"
        began = datetime.now(UTC)
        run = f"{began:{STAMP}}-{secrets.token_hex(3)}"
        if replaces:
            run = f"{replaces.run.partition('.')[0]}.{run}"
        manifest = Manifest(name, str(day), run, (), facts)
        before = self._seen or {each: self._runs(each) for each in (name, ERASURES)}
        try:
            if rows is not None:
                files = write(rows, f"{self.url}/{manifest.folder}", prepare)
                manifest = replace(manifest, files=files)
            if replaces:
                erased = replaces.erased + replaces.rows - manifest.rows
                manifest = replace(manifest, erased=erased)
            check(manifest)
            self._commit(manifest, day, before)
        except BaseException as error:
            with suppress(Exception):  # an error of this clean-up must not replace the first one
                if self._runs(name).get(day) != run:
                    self._location.remove(manifest.folder)
            collect(Publication(self.url, manifest, began, datetime.now(UTC), error))
            raise
        if self._seen:
            self._seen[name] = self._seen[name] | {day: run}
        collect(Publication(self.url, manifest, began, datetime.now(UTC)))
        return manifest

    def put(self, path: str, text: str) -> str:
        """Write a text file below the root in one step; return its address."""
        return self._location.write_text(path, text)

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of all unfinished trainings."""
        self._location.remove(CHECKPOINTS)

    def vacuum(self, keep: timedelta, pinned: Collection[str] = ()) -> int:
        """Remove the files of runs that were superseded longer than ``keep`` ago; return how many.

        Files of killed jobs and abandoned checkpoints are removed too, published and ``pinned``
        runs never.
        """
        removed = sum(self._table(name).vacuum(keep, pinned) for name in DATA_SETS)
        oldest = datetime.now(UTC) - keep
        for path in self._location.folders(CHECKPOINTS):
            latest = f"{path}/{LATEST}"
            if self.fs.exists(latest) and self.fs.modified(latest) < oldest:
                self.fs.rm(path, recursive=True)
        return removed

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            by = {"date": "date", "run": "string"}
            if name == PUBLICATIONS:
                by = {"data_set": "string", "date": "date"}
            self._tables[name] = self._location.table(name, by)
        return self._tables[name]

    def _runs(self, name: str) -> Runs:
        table = self._table(name)
        return dict(table.partitions_at(self._as_of) if self._as_of else table.partitions())

    def _manifest(self, name: str, day: date, run: str) -> Manifest:
        path = _record_path(name, day, run)
        if path not in self._manifests:
            try:
                with self.fs.open(f"{self.base}/{path}", "rb") as file:
                    self._manifests[path] = Manifest.from_table(name, str(day), pq.read_table(file))
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                raise InputError(
                    f"{self.url}/{path}: not a record ({error}): restore the file, or build the"
                    " date again"
                ) from None
        return self._manifests[path]

    def _commit(self, manifest: Manifest, day: date, before: dict[str, Runs]) -> None:
        """Record a run and publish its files, unless somebody else published since ``before``."""
        files = [File(f.path, f.bytes, f.rows) for f in manifest.files]
        if not files:
            facts = pa.table({"facts": [json.dumps(manifest.facts, sort_keys=True)]})
            files = [self._location.write_rows(manifest.folder, RECORD, facts)]
        schema = self._location.schema_of(f"{manifest.folder}/{files[0].name}")
        record, row = _record_path(manifest.name, day, manifest.run), manifest.to_table()
        folder, _, file_name = record.rpartition("/")
        written = self._location.write_rows(folder, file_name, row)
        self._table(PUBLICATIONS).add((manifest.name, str(day)), [written], row.schema)

        def check(partitions: list[tuple[date, str]]) -> None:
            runs, then = dict(partitions), before[manifest.name]
            chained = self._seen and DATA_SETS[manifest.name].chained
            if (runs != then) if chained else runs.get(day) != then.get(day):
                raise InputError(
                    f"{self.url}/{manifest.name}: another job published it while this one ran: run"
                    " this job again"
                )
            if manifest.name != ERASURES and self._runs(ERASURES) != before[ERASURES]:
                raise InputError(
                    f"{self.url}: users were erased while this job ran: run this job again"
                )

        self._table(manifest.name).add((str(day), manifest.run), files, schema, check)

    def _require_sizes(self, manifest: Manifest) -> None:
        files = self.fs.find(f"{self.base}/{manifest.folder}", detail=True)
        sizes = {path.rpartition("/")[2]: info["size"] for path, info in files.items()}
        for file, url in zip(manifest.files, self.urls(manifest), strict=True):
            if (size := sizes.get(file.path)) != file.bytes:
                way_out = "restore the file, or build its date again"
                if self._as_of:
                    way_out = "it was removed since then: choose a later score.as_of"
                raise InputError(
                    f"{url}: has {size or 'no'} bytes, but its manifest says {file.bytes}:"
                    f" {way_out}"
                )


def _record_path(name: str, day: date, run: str) -> str:
    return f"{PUBLICATIONS}/data_set={name}/date={day}/{run}.parquet"
