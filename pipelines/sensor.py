"""Waits until what a night reads has arrived, and says what has not.

Before anything is built or trained, so that missing candidates are not found after hours of work.
"""

import time
from collections.abc import Iterator
from datetime import date
from typing import Any

from pyspark.sql import SparkSession

from din_model.config import duration
from din_model.console import console
from din_model.errors import InputError
from pipelines.ingest.logs import DAY
from pipelines.ingest.sources import Source, SourcesConfig
from pipelines.training.gate import NightlyConfig


def await_logs(
    spark: SparkSession, sources: SourcesConfig, config: NightlyConfig, day: date, built: bool
) -> None:
    """Return once every ``{date}`` path that the night of ``day`` reads is there, with files in it.

    Files that Spark would not read, such as those of a writer that is not done, do not count. With
    ``nightly.marker``, each folder must hold that file too. Tables are not waited for: what a date
    lacks there is told when it is read.

    Args:
        built: the date is built, so its logs are not read again.

    Raises:
        InputError: something is not there when ``nightly.wait`` is over; a marker where the path
            is a file, not a folder.
    """
    expected = list(_read_by(sources, day, built))
    paths = [
        (name, on, path)
        for name, source, on in expected
        if "{date}" in (source.path or "") and (path := source.path_of(on))
    ]
    wait, poll = (duration(text).total_seconds() for text in (config.wait, config.poll))
    tables = [f"sources.{name}" for name, source, _ in expected if source.table]
    if wait and tables:
        console.print(f"  tables are not waited for: {', '.join(tables)}")
    missing = _first_missing(spark, paths, config.marker)
    if wait and missing:
        console.print(f"  waiting up to {config.wait}: {missing}", markup=False)
    end = time.monotonic() + wait
    while missing and (left := end - time.monotonic()) > 0:
        time.sleep(min(poll, left))
        missing = _first_missing(spark, paths, config.marker)
    if missing:
        raise InputError(f"{missing}, and nightly.wait of {config.wait} is over")


def _read_by(sources: SourcesConfig, day: date, built: bool) -> Iterator[tuple[str, Source, date]]:
    """Name, source and date of all that the night of ``day`` reads."""
    logs: dict[str, Source | None] = {"impressions": sources.impressions, "clicks": sources.clicks}
    for i, behaviours in enumerate(sources.behaviours):
        logs[f"behaviours.{i}"] = behaviours if behaviours.origin == "log" else None
    tables: dict[str, Source | None] = {"items": sources.items, "users": sources.users}
    for name, source in (tables if built else logs | tables).items():
        if source:
            yield name, source, day
    if sources.candidates:
        yield "candidates", sources.candidates, day + DAY


def _first_missing(
    spark: SparkSession, paths: list[tuple[str, date, str]], marker: str | None
) -> str | None:
    for name, on, path in paths:
        if why := _lacks(spark, path, marker, name):
            return f"sources.{name}: no data for {on}: {path} {why}"
    return None


def _lacks(spark: SparkSession, path: str, marker: str | None, name: str) -> str | None:
    """What there is not yet at a path; a pattern must be complete wherever it matches."""
    hadoop = spark._jvm.org.apache.hadoop.fs  # type: ignore[union-attr]
    pattern = hadoop.Path(path)
    files = pattern.getFileSystem(spark._jsc.hadoopConfiguration())
    found = files.globStatus(pattern)
    if not found:
        return "does not exist"
    for status in found:
        if marker and status.isFile():
            raise InputError(
                f"nightly.marker: sources.{name} is a file a date, {path}, and none can hold"
                f" {marker}: take nightly.marker out, or give the folder of each date"
            )
        folder = status.getPath()
        if status.isDirectory() and not _holds_a_file(files, folder):
            return "holds no file"
        if marker and not files.exists(hadoop.Path(folder, marker)):
            return f"has no {marker}"
    return None


def _holds_a_file(files: Any, folder: Any) -> bool:
    seen = [s for s in files.listStatus(folder) if not _hidden(s.getPath().getName())]
    return any(s.isFile() or _holds_a_file(files, s.getPath()) for s in seen)


def _hidden(name: str) -> bool:
    """Whether Spark overlooks a file or folder of this name."""
    unfinished = name.startswith(".") or name.endswith("._COPYING_")
    return unfinished or (name.startswith("_") and "=" not in name)
