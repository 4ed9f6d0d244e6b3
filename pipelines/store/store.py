"""Where tables lie and how they are published; nothing else in the project knows a path.

A data set is ``NAME/date=D/run=R/*.parquet`` with one ``_manifest.json`` a date. A job writes a
fresh hidden run folder, checks it, shows it, and then replaces the manifest: readers of the
manifest see the old day or the new one, never a part. On local disk and HDFS the replacement is a
rename, on object stores one PUT; both are atomic. The superseded run folder is hidden afterwards
(``.run=…``: Spark overlooks names with a leading dot, but not ``_run=…``, which it takes for a
partition), so that a plain ``spark.read.parquet`` sees one run a date too.
"""

import json
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
from din_model.training.checkpoint import LATEST
from pipelines.store.parquet import DataFile, Prepare, write

FORMAT_VERSION = 1
CHECKPOINTS = "checkpoints"
"""Where trainings that are not done yet are written down, by their model's fingerprint."""

STAMP = "%Y%m%dT%H%M%S"
"""When a run was written, as its folder's name begins."""


@dataclass(frozen=True)
class StoreConfig(Section):
    """The root of everything that the pipeline writes.

    Attributes:
        path: the folder, or any address that Spark and fsspec know; ``${VARIABLE}`` is filled in.
        keep: how long a superseded run stays, for readers that had opened it; see jobs.prune.
    """

    path: str
    keep: str = "7d"


@dataclass(frozen=True)
class Manifest:
    """What is published of a data set for one date.

    ``facts`` holds what the writer knows: spec hash, vocabulary sizes, parents, counts, rates.
    ``erased``: how many of the rows that were written users had taken out.
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
        return sum(f.rows for f in self.files)

    @property
    def id(self) -> str:
        """What a child pins: data set, date and run; what is left after an erasure keeps it."""
        return f"{self.name}/{self.date}/{self.run.partition('.')[0]}"


class Store:
    """All data sets below one root folder."""

    def __init__(self, root: str) -> None:
        self.fs, self.base = url_to_fs(expand(root))
        # Without a scheme Spark would ask the cluster's default file system, and fsspec this disk.
        self.url = expand(root) if "://" in root else f"file://{self.base}"

    def manifest(self, name: str, day: date) -> Manifest | None:
        """Return what is published for the date, or None.

        Raises:
            InputError: a manifest of another format version, or one that cannot be read.
        """
        path = f"{self.base}/{name}/date={day}/_manifest.json"
        try:
            data = json.loads(self.fs.cat_file(path))
            if data["format_version"] != FORMAT_VERSION:
                raise InputError(
                    f"{path}: format version {data['format_version']}, this release reads"
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
        """Return the manifest of a date that must be there; ``way_out`` says what to run if not."""
        manifest = self.manifest(name, day)
        if manifest is None:
            raise InputError(f"{self.url}/{name}: nothing published for {day}; {way_out}")
        return manifest

    def dates(self, name: str) -> list[date]:
        """The published dates of a data set, in order."""
        found = self.fs.glob(f"{self.base}/{name}/date=*/_manifest.json")
        return sorted(date.fromisoformat(path.split("/date=")[1][:10]) for path in found)

    def before(self, name: str, day: date) -> Manifest | None:
        """The newest manifest of an earlier date than ``day``."""
        earlier = [each for each in self.dates(name) if each < day]
        return self.manifest(name, earlier[-1]) if earlier else None

    def manifests(self, name: str) -> list[Manifest]:
        """The manifests of all published dates, in order."""
        return [m for day in self.dates(name) if (m := self.manifest(name, day))]

    def urls(self, manifest: Manifest, hidden: bool = False) -> list[str]:
        """Full address of each file, in the manifest's order; ``hidden``: not yet published."""
        run = f"{'.' if hidden else ''}run={manifest.run}"
        folder = f"{self.url}/{manifest.name}/date={manifest.date}/{run}"
        return [f"{folder}/{file.path}" for file in manifest.files]

    def read(self, spark: SparkSession, manifests: Sequence[Manifest]) -> DataFrame:
        """The rows of published runs, and of them alone.

        Raises:
            InputError: a file has another size than its manifest says. Spark would read an empty
                one, as a machine without power may leave it, as no rows.
        """
        for manifest in manifests:
            self._require_sizes(manifest)
        return spark.read.parquet(*[url for m in manifests for url in self.urls(m)])

    def sole_writer(self) -> AbstractContextManager[None]:
        """Let nobody else build in this store meanwhile: ids and states follow one another."""
        return self.locked("writer", "another job is building in this store")

    @contextmanager
    def locked(self, name: str, busy: str) -> Iterator[None]:
        """Hold the store's lock of that name; locks of other names do not matter.

        On local disk the lock ends with its process, however it ends. Elsewhere it is a file that a
        killed job leaves behind.

        Raises:
            InputError: somebody else holds it, at once; ``busy`` says who that is.
        """
        path = f"{self.base}/.{name}.lock"
        self.fs.makedirs(self.base, exist_ok=True)
        if "file" in self.fs.protocol:
            try:
                held = FileLock(path).acquire(timeout=0)
            except Timeout:
                raise InputError(f"{self.url}: {busy}; run again when it has ended") from None
            with held:
                yield
            return
        try:
            self.fs.pipe_file(path, b"", mode="create")
        except FileExistsError:
            raise InputError(
                f"{self.url}: {busy}; run again when it has ended (if it was killed, remove {path})"
            ) from None
        try:
            yield
        finally:
            self.fs.rm(path)

    def publish(
        self,
        name: str,
        day: date,
        rows: DataFrame | None,
        facts: dict[str, Any],
        check: Callable[[Manifest], None] = lambda manifest: None,
        prepare: Prepare = iter,
        replaces: Manifest | None = None,
    ) -> Manifest:
        """Write ``rows`` (None: a record without rows), check them, and let readers see them.

        ``check`` raises where the written files are not what they must be; then yesterday's
        answer stands, and the hidden folder is removed. What it finds it may add to the facts.
        ``prepare``: see pipelines.store.parquet.write. ``replaces``: the run of which these
        rows are what is left; the new one takes its place under its id.
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
        for path in self.fs.glob(f"{folder}/run=*"):
            if path.rpartition("/run=")[2] != run:
                self.fs.mv(path, path.replace("/run=", "/.run="), recursive=True)
        return manifest

    def put(self, path: str, text: str) -> str:
        """Write a file below the root in one step, over what is there; return its address."""
        self._replace(f"{self.base}/{path}", text)
        return f"{self.url}/{path}"

    def prune(self, before: datetime) -> int:
        """Remove the superseded runs that were written before a moment (UTC); return how many.

        What a killed job left hidden, and checkpoints that nobody went on from, go with them; a
        published run never does.
        """
        removed = 0
        for path in sorted(self.fs.glob(f"{self.base}/*/date=*/.run=*")):
            written = path.rpartition("/.run=")[2].partition("-")[0]
            stamp = datetime.strptime(written, STAMP).replace(tzinfo=timezone.utc)
            if stamp < before:
                self.fs.rm(path, recursive=True)
                removed += 1
        for path in self.fs.glob(f"{self.base}/{CHECKPOINTS}/*/{LATEST}"):
            if self.fs.modified(path) < before:
                self.fs.rm(path.rpartition("/")[0], recursive=True)
        return removed

    def _require_sizes(self, manifest: Manifest) -> None:
        folder = f"{self.base}/{manifest.name}/date={manifest.date}/run={manifest.run}"
        there = self.fs.find(folder, detail=True)
        sizes = {path.rpartition("/")[2]: about["size"] for path, about in there.items()}
        for file, url in zip(manifest.files, self.urls(manifest), strict=True):
            if (size := sizes.get(file.path)) != file.bytes:
                raise InputError(
                    f"{url}: cannot be read (it has {size or 'no'} bytes, and its manifest says"
                    f" {file.bytes}): put the file back, or build its date again"
                )

    def _replace(self, path: str, text: str) -> None:
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self.fs.protocol in ("s3", "gs", "abfs") or "s3" in self.fs.protocol:
            self.fs.pipe_file(path, text.encode())
            return
        draft = f"{path}.{secrets.token_hex(3)}"
        self.fs.pipe_file(draft, text.encode())
        self.fs.mv(draft, path)


def _to_json(manifest: Manifest) -> str:
    sums = {"rows": manifest.rows, "bytes": sum(f.bytes for f in manifest.files)}
    return json.dumps(asdict(manifest) | sums, indent=1, sort_keys=True)
