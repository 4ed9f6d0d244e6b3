"""Where data sets lie and how they are published. No other module builds such paths.

A data set is ``NAME/date=D/run=R/*.parquet`` with one ``_manifest.json`` per date. A job writes a
hidden run folder, checks it, makes it visible, and replaces the manifest: readers of the manifest
see the old day or the new one. On local disk and HDFS the replacement is a rename, on object stores
one PUT; both are atomic. The superseded run is hidden afterwards (``.run=…``; Spark skips names
with a leading dot, but takes ``_run=…`` for a partition), so that a plain ``spark.read.parquet``
sees one run per date too.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timezone
from typing import Any

from filelock import FileLock, Timeout
from fsspec.core import url_to_fs
from pyspark.sql import DataFrame, SparkSession

from din_model.config import Section, expand
from din_model.errors import InputError
from din_model.ranges import Duration
from din_model.training.checkpoint import LATEST
from pipelines.store.parquet import DataFile, Prepare, write

FORMAT_VERSION = 1
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints of unfinished trainings, by the fingerprint of their model."""

STAMP = "%Y%m%dT%H%M%S"
"""Time format at the start of a run's name."""

ANY = re.compile("[^.].*")
DATE = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
RUN = re.compile(r"run=((\d{8}T\d{6})-[0-9a-f.T-]+)")
HIDDEN_RUN = re.compile(rf"\.{RUN.pattern}")
"""Names of folders. Any other folder is not ours: it is neither read nor removed."""


@dataclass(frozen=True)
class StoreConfig(Section):
    """The root of everything that the pipeline writes.

    Attributes:
        path: folder, or any address that Spark and fsspec support; ``${VARIABLE}`` is replaced.
        keep: how long a superseded run is kept for readers that have opened it; see jobs.prune.
    """

    path: str
    keep: Duration = "7d"


@dataclass(frozen=True)
class Manifest:
    """What is published of a data set for one date.

    ``facts`` holds what the writer records: spec hash, vocabulary sizes, parents, counts, rates.
    ``erased`` is the number of written rows that erasures removed.
    """

    name: str
    date: str
    run: str
    files: tuple[DataFile, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    erased: int = 0

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(f.rows for f in self.files)

    @property
    def id(self) -> str:
        """The id that dependent data sets pin; an erasure keeps it."""
        return f"{self.name}/{self.date}/{self.run.partition('.')[0]}"


class Store:
    """All data sets below one root folder."""

    def __init__(self, root: str) -> None:
        try:
            self.fs, self.base = url_to_fs(expand(root))
        except (ValueError, ImportError) as error:
            raise InputError(f"store.path: {root} cannot be opened: {error}") from None
        if "file" in self.fs.protocol and self.fs.isfile(self.base):
            raise InputError(f"store.path: {root} is a file: name a folder")
        # Without a scheme Spark would use the cluster's default file system, and fsspec this disk.
        self.url = expand(root) if "://" in root else f"file://{self.base}"

    def manifest(self, name: str, day: date) -> Manifest | None:
        """Return the manifest of the date, or None.

        Raises:
            InputError: another format version, or an unreadable manifest.
        """
        path = f"{self.base}/{name}/date={day}/_manifest.json"
        try:
            data = json.loads(self.fs.cat_file(path))
            if data["format_version"] != FORMAT_VERSION:
                raise InputError(
                    f"{path}: format version {data['format_version']}, but this release reads"
                    f" {FORMAT_VERSION}: build the date again"
                )
            files = tuple(DataFile(**f) for f in data.pop("files"))
            data.pop("rows"), data.pop("bytes")
            return Manifest(**data, files=files)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a manifest ({error}): build the date again") from None

    def require(self, name: str, day: date, way_out: str) -> Manifest:
        """Return the manifest of a date; ``way_out`` says what to do if there is none."""
        manifest = self.manifest(name, day)
        if manifest is None:
            raise InputError(f"{self.url}/{name}: nothing is published for {day}: {way_out}")
        return manifest

    def dates(self, name: str) -> list[date]:
        """Return the published dates of a data set, in order."""
        folder = f"{self.base}/{name}"
        days = [match[1] for match in self._folders(folder, DATE)]
        known = [day for day in days if self.fs.exists(f"{folder}/date={day}/_manifest.json")]
        return sorted(map(date.fromisoformat, known))

    def before(self, name: str, day: date) -> Manifest | None:
        """Return the newest manifest of a date before ``day``."""
        earlier = [each for each in self.dates(name) if each < day]
        return self.manifest(name, earlier[-1]) if earlier else None

    def manifests(self, name: str) -> list[Manifest]:
        """Return the manifests of all published dates, in order."""
        return [m for day in self.dates(name) if (m := self.manifest(name, day))]

    def urls(self, manifest: Manifest, hidden: bool = False) -> list[str]:
        """Return the address of each file, in the manifest's order; ``hidden``: not yet visible."""
        run = f"{'.' if hidden else ''}run={manifest.run}"
        folder = f"{self.url}/{manifest.name}/date={manifest.date}/{run}"
        return [f"{folder}/{file.path}" for file in manifest.files]

    def read(self, spark: SparkSession, manifests: Sequence[Manifest]) -> DataFrame:
        """Return the rows of published runs.

        Raises:
            InputError: the size of a file differs from its manifest. Spark would read a file
                emptied by a power failure as no rows.
        """
        for manifest in manifests:
            self._require_sizes(manifest)
        return _parquet(spark, [url for m in manifests for url in self.urls(m)])

    def read_hidden(self, spark: SparkSession, manifest: Manifest) -> DataFrame:
        """Return the written rows of a run that is not yet visible."""
        return _parquet(spark, self.urls(manifest, hidden=True))

    def sole_writer(self) -> AbstractContextManager[None]:
        """Hold the store's writer lock: builds depend on the ids and states of earlier ones."""
        return self.locked("writer", "another job is building in this store")

    @contextmanager
    def locked(self, name: str, busy: str) -> Iterator[None]:
        """Hold the store's lock of that name; locks of other names are independent.

        On local disk the lock ends with its process. Elsewhere it is a file that a killed job
        leaves behind.

        Raises:
            InputError: another job holds the lock; ``busy`` describes it.
        """
        path = f"{self.base}/.{name}.lock"
        self.fs.makedirs(self.base, exist_ok=True)
        if "file" in self.fs.protocol:
            try:
                held = FileLock(path).acquire(timeout=0)
            except Timeout:
                raise InputError(f"{self.url}: {busy}: run again when it has ended") from None
            with held:
                yield
            return
        try:
            self.fs.pipe_file(path, b"", mode="create")
        except FileExistsError:
            raise InputError(
                f"{self.url}: {busy}: run again when it has ended; if it was killed, remove {path}"
            ) from None
        try:
            yield
        finally:
            self.fs.rm(path)

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
        """
        run = f"{datetime.now(timezone.utc):{STAMP}}-{secrets.token_hex(3)}"
        if replaces:
            run = f"{replaces.run.partition('.')[0]}.{run}"
        folder = f"{self.base}/{name}/date={day}"
        hidden = f"{folder}/.run={run}"
        try:
            files: tuple[DataFile, ...] = ()
            if rows is not None:
                files = write(rows, f"{self.url}/{name}/date={day}/.run={run}", prepare)
            manifest = Manifest(name, str(day), run, files, facts)
            if replaces:
                erased = replaces.erased + replaces.rows - manifest.rows
                manifest = replace(manifest, erased=erased)
            check(manifest)
        except BaseException:
            if self.fs.exists(hidden):
                self.fs.rm(hidden, recursive=True)
            raise
        if rows is not None:
            self.fs.mv(hidden, f"{folder}/run={run}", recursive=True)
        self._replace(f"{folder}/_manifest.json", _to_json(manifest))
        for match in self._folders(folder, RUN):
            if match[1] != run:
                self.fs.mv(f"{folder}/run={match[1]}", f"{folder}/.run={match[1]}", recursive=True)
        return manifest

    def put(self, path: str, text: str) -> str:
        """Write a text file below the root in one step; return its address."""
        self._replace(f"{self.base}/{path}", text)
        return f"{self.url}/{path}"

    def prune(self, before: datetime) -> int:
        """Remove superseded runs written before a moment (UTC); return how many.

        Hidden folders of killed jobs and abandoned checkpoints are removed too, published runs
        never.
        """
        removed = 0
        for name in [match[0] for match in self._folders(self.base, ANY)]:
            for day in [match[0] for match in self._folders(f"{self.base}/{name}", DATE)]:
                folder = f"{self.base}/{name}/{day}"
                for run in self._folders(folder, HIDDEN_RUN):
                    if run[2] < f"{before:{STAMP}}":
                        self.fs.rm(f"{folder}/{run[0]}", recursive=True)
                        removed += 1
        for training in self._folders(f"{self.base}/{CHECKPOINTS}", ANY):
            folder = f"{self.base}/{CHECKPOINTS}/{training[0]}"
            latest = f"{folder}/{LATEST}"
            if self.fs.exists(latest) and self.fs.modified(latest) < before:
                self.fs.rm(folder, recursive=True)
        return removed

    def _folders(self, parent: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """Return the matches of whole names in a folder; a copied ``date=D.bak`` is no date.

        Not by glob, because the characters of ``store.path`` are not a pattern.
        """
        try:
            paths = self.fs.ls(parent, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = sorted({path.rstrip("/").rpartition("/")[2] for path in paths})
        return [match for name in names if (match := pattern.fullmatch(name))]

    def _require_sizes(self, manifest: Manifest) -> None:
        folder = f"{self.base}/{manifest.name}/date={manifest.date}/run={manifest.run}"
        files = self.fs.find(folder, detail=True)
        sizes = {path.rpartition("/")[2]: info["size"] for path, info in files.items()}
        for file, url in zip(manifest.files, self.urls(manifest), strict=True):
            if (size := sizes.get(file.path)) != file.bytes:
                raise InputError(
                    f"{url}: has {size or 'no'} bytes, but its manifest says {file.bytes}: restore"
                    " the file, or build its date again"
                )

    def _replace(self, path: str, text: str) -> None:
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self.fs.protocol in ("s3", "gs", "abfs") or "s3" in self.fs.protocol:
            self.fs.pipe_file(path, text.encode())
            return
        draft = f"{path}.{secrets.token_hex(3)}"
        self.fs.pipe_file(draft, text.encode())
        self.fs.mv(draft, path)


def _parquet(spark: SparkSession, urls: Sequence[str]) -> DataFrame:
    """Read files by their exact addresses, which Spark would take for patterns."""
    return spark.read.parquet(*[re.sub(r"([\[\]{}*?\\])", r"\\\1", url) for url in urls])


def _to_json(manifest: Manifest) -> str:
    sums = {"rows": manifest.rows, "bytes": sum(f.bytes for f in manifest.files)}
    return json.dumps(asdict(manifest) | sums, indent=1, sort_keys=True)
