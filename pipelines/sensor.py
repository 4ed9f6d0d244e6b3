"""Waits for the logs and candidates that a night reads, and reports what is missing.

It runs before anything is built or trained, so that missing candidates do not surface after hours
of work.
"""

import time
from collections.abc import Iterator
from datetime import date

from pyspark.sql import SparkSession

from din_model.config import duration
from din_model.console import console
from din_model.errors import InputError
from pipelines.access.choice import Files, session_files
from pipelines.access.files import Entry
from pipelines.ingest.logs import DAY
from pipelines.ingest.sources import Source, SourcesConfig, days_between, require_logs
from pipelines.store.data_sets import STATE
from pipelines.store.store import Store
from pipelines.training.gate import NightlyConfig


def await_logs(
    spark: SparkSession, sources: SourcesConfig, config: NightlyConfig, day: date, built: bool
) -> None:
    """Return once every ``{date}`` path that the night of ``day`` reads exists and holds files.

    Files that Spark would skip, such as those of an unfinished writer, do not count. With
    ``nightly.marker`` each folder must also hold that file. Tables are not waited for: a date
    missing there is reported when the table is read.

    Args:
        spark: the session.
        sources: where the logs are.
        config: how long to wait.
        day: the date of the night.
        built: the date is built, so its logs are not read again.

    Raises:
        InputError: the logs of the date are lost; something is missing after ``nightly.wait``; a
            marker is configured for a path that is a file.
    """
    require_logs(sources, day)
    expected = list(_read_by(sources, day, built))
    paths = [
        (name, date_read, path)
        for name, source, date_read in expected
        if "{date}" in (source.path or "") and (path := source.path_of(date_read))
    ]
    wait, poll = (duration(text).total_seconds() for text in (config.wait, config.poll))
    tables = [f"sources.{name}" for name, source, _ in expected if source.table]
    if wait and tables:
        console.print(f"  not waiting for tables: {', '.join(tables)}")
    missing = _first_missing(spark, paths, config.marker)
    if wait and missing:
        console.print(f"  waiting up to {config.wait}: {missing}")
    end = time.monotonic() + wait
    while missing and (remaining := end - time.monotonic()) > 0:
        time.sleep(min(poll, remaining))
        missing = _first_missing(spark, paths, config.marker)
    if missing:
        raise InputError(f"{missing} after nightly.wait of {config.wait}")


def lost_before(
    spark: SparkSession, store: Store, sources: SourcesConfig, since: date | None, window: int,
    day: date,
) -> tuple[date, ...]:  # fmt: skip
    """Return the dates before ``day`` that have no impressions, and say so.

    The log of ``day`` is there, so those of earlier dates are not late but lost: a site that was
    down for a date must not end the nights for good.

    Args:
        spark: the session.
        store: dates that are built, and dates before the first one, are not looked at.
        sources: where the logs are, and the dates that are known to be lost.
        since: first date of the logs.
        window: days before ``day`` that are looked at in any case.
        day: the date of the night.
    """
    source = sources.impressions
    if "{date}" not in (source.path or ""):
        return ()
    first, lost = day - window * DAY, []
    if since:
        first = max(since, min([first, *store.dates(STATE)[:1]]))
    for each in days_between(first, day - DAY):
        path = source.path_of(each)
        unknown = each not in sources.lost_dates and store.manifest(STATE, each) is None
        if unknown and path and not session_files(spark).matches(path)[1]:
            lost.append(each)
            console.print(
                f"  {each} is passed over: {path} does not exist, though {day} has a log; if it"
                f" comes after all, build again from {each} on (build.first)"
            )
    return tuple(lost)


def _read_by(sources: SourcesConfig, day: date, built: bool) -> Iterator[tuple[str, Source, date]]:
    """Yield name, source and date of everything that the night of ``day`` reads."""
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
        if why := _lack_of(spark, path, marker, name):
            return f"sources.{name}: no data for {on}: {path} {why}"
    return None


def _lack_of(spark: SparkSession, path: str, marker: str | None, name: str) -> str | None:
    """Return what a path lacks; a pattern must be complete wherever it matches."""
    files = session_files(spark)
    _, found = files.matches(path)
    if not found:
        return "does not exist"
    for entry in found:
        if marker and not entry.is_folder:
            raise InputError(
                f"nightly.marker: sources.{name} is one file per date, {path}, which cannot hold"
                f" {marker}: remove nightly.marker, or use a folder per date"
            )
        if entry.is_folder and not _holds_a_file(files, entry):
            return "holds no file"
        if marker and not files.exists(f"{entry.address}/{marker}"):
            return f"has no {marker}"
    return None


def _holds_a_file(files: Files, folder: Entry) -> bool:
    visible = [entry for entry in files.children(folder) if not _hidden(entry.name)]
    return any(not entry.is_folder or _holds_a_file(files, entry) for entry in visible)


def _hidden(name: str) -> bool:
    """Return whether Spark skips a file or folder of this name."""
    unfinished = name.startswith(".") or name.endswith("._COPYING_")
    return unfinished or (name.startswith("_") and "=" not in name)
