"""The frame around the UDF: candidates of a date in, a published table of scores out."""

import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.config import Section, to_dict
from din_model.console import console, stage
from din_model.errors import InputError
from din_model.evaluation import plots
from din_model.evaluation.calibration import Calibration
from din_model.registry import artifact, tracking, versions
from pipelines.examples.publish import EXAMPLES, unsampled_examples
from pipelines.examples.state import STATE
from pipelines.examples.vocabulary import decode, open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.sources import fingerprint, start_of
from pipelines.scoring.candidates import CandidatesConfig
from pipelines.scoring.candidates import candidates as candidates_of
from pipelines.scoring.guards import Breach, GuardsConfig, calibration, check, compared, measured
from pipelines.scoring.scorer import Candidates, Night, counted, encoded, finished, score, ship
from pipelines.scoring.shadow import SHADOW, rankings_compared
from pipelines.scoring.udf import Task
from pipelines.sinks.catalog import to_catalog
from pipelines.sinks.names import TABLE, identifiers
from pipelines.sinks.postgres import PostgresConfig, to_postgres
from pipelines.store.store import Manifest, Store

SCORES, REFUSED = "scores", "refused"


@dataclass(frozen=True)
class ScoreConfig(Section):
    """How candidates are scored, and where the table goes.

    Attributes:
        model: null is the champion; else a version, ``@alias`` or ``models:/NAME/7``. A night takes
            what its gate decided instead.
        explain: so many behaviours that weighed most are written with each score.
        top: so many candidates of a user are kept, the best; null keeps all.
        shadow: another version (named as ``model``), which scores too; how its ranking differs is
            reported.
        table: a table of Spark's catalog that the published date is copied to.
        postgres: a table in PostgreSQL that it is copied to.
        replay: attach histories to the impressions of the date itself, and compare them with the
            examples'; nothing is published.
        guards: what holds a table back.
    """

    model: str | None = None
    explain: int = 0
    top: int | None = None
    shadow: str | None = None
    table: str | None = None
    postgres: PostgresConfig | None = None
    replay: bool = False
    guards: GuardsConfig = field(default_factory=GuardsConfig)

    def __post_init__(self) -> None:
        if min(self.explain, (self.top or 1) - 1) < 0:
            raise ValueError("explain must not be negative, and top at least 1")
        if self.table:
            identifiers(self.table, TABLE, 3)


def score_day(
    logs: Logs, store: Store, model_name: str, version: int, config: ScoreConfig, day: date,
    rules: CandidatesConfig | None = None,
) -> Manifest:  # fmt: skip
    """Score every candidate of ``day`` with a version and the state of the day before.

    What is published already, from the same inputs, is not scored again, but delivered again.

    Args:
        rules: how candidates are generated where ``sources.candidates`` names none.

    Raises:
        InputError: no state, no candidates, scores and refusals that do not add up to them, or
            numbers out of their limits (see pipelines.scoring.guards): what was published stays.
    """
    spark, started = logs.spark, time.perf_counter()
    state = store.require(STATE, day - DAY, "run jobs.build_sequences for it")
    with stage(f"{day} score") as report:
        marked = candidates_of(logs, store, day, rules)
        folder, facts = _opened(logs, model_name, version)
        pins = {
            "state": state.id,
            "model": model_name,
            "version": version,
            "explain": config.explain,
            "top": config.top,
            "rules": None if logs.sources.candidates or not rules else to_dict(rules),
            "inputs": fingerprint(spark, [marked]),
            "fingerprint": facts.fingerprint,
        }
        before = store.manifest(SCORES, day)
        if before and {name: before.facts.get(name) for name in pins} == pins:
            report.rows, report.note = before.rows, "published already, from the same inputs"
            _deliver(spark, store, before, config)
            return before
        vocabulary, _ = open_vocabulary(spark, store)
        candidates = counted(encoded(marked, logs.spec, vocabulary), config.top)
        if candidates.counts["good"] == 0:
            raise InputError(
                f"no candidate for {day} can be scored: {candidates.counts['refused']} are refused,"
                " and there are no others"
            )
        rows = _scored(logs, store, candidates, state, folder, config, day)
        rows = rows.withColumns(_signed(model_name, version, day))
        store.publish(REFUSED, day, candidates.refused, candidates.counts)
        last = store.before(SCORES, day)

        def look(manifest: Manifest) -> None:
            numbers = _reconciled(manifest, candidates.counts)
            numbers |= measured(spark.read.parquet(*store.urls(manifest, hidden=True)))
            numbers |= compared(numbers, last.facts if last else None, facts.scores)
            calibrated, curve = _calibration(logs, store, day - DAY)
            numbers |= calibrated
            seconds = time.perf_counter() - started
            _log(numbers | {"rows_per_s": manifest.rows / seconds}, last, curve)
            manifest.facts.update(numbers | {"calibration": [list(bucket) for bucket in curve]})
            try:
                check(numbers, config.guards, str(day))
            except Breach as breach:
                breach.held = manifest
                raise

        manifest = store.publish(SCORES, day, rows, pins | candidates.counts, look)
        report.rows, report.note = manifest.rows, f"{candidates.counts['refused']:,} refused"
    told = {"scored": day, "version": version, "state": state.id, "scores": manifest.id}
    tracking.log_params(told)
    _deliver(spark, store, manifest, config)
    if config.shadow:
        other = versions.resolve(model_name, config.shadow)
        _shadow(logs, store, candidates, state, model_name, other, config, manifest)
    candidates.forget()
    return manifest


def _deliver(spark: SparkSession, store: Store, manifest: Manifest, config: ScoreConfig) -> None:
    rows, day = store.read(spark, [manifest]), date.fromisoformat(manifest.date)
    if config.table:
        to_catalog(rows, config.table, day)
    if config.postgres:
        to_postgres(rows, config.postgres, day, manifest.rows)


def _opened(logs: Logs, model_name: str, version: int) -> tuple[Path, artifact.ModelMetadata]:
    """Fetch a version; return its folder and where it comes from."""
    folder = versions.download(model_name, version)
    model, facts = artifact.load(folder)
    if model.spec.hash != logs.spec.hash:
        raise InputError(
            f"{model_name} version {version} was trained with another spec than features and"
            " history now say: train again, or put them back"
        )
    return folder, facts


def _scored(
    logs: Logs, store: Store, candidates: Candidates, state: Manifest, folder: Path,
    config: ScoreConfig, day: date,
) -> DataFrame:  # fmt: skip
    task = Task(start_of(day, logs.spec.time_zone), config.explain, config.top)
    night = Night(logs.spec, ship(logs.spark, folder), task)
    rows = score(candidates.good, candidates.sizes, store.read(logs.spark, [state]), night)
    vocabulary, _ = open_vocabulary(logs.spark, store)
    return finished(rows, logs.spec, vocabulary)


def _signed(model_name: str, version: int, day: date) -> dict[str, Column]:
    """What says of each score where it comes from."""
    return {"model": F.lit(model_name), "model_version": F.lit(version), "date": F.lit(str(day))}


def _reconciled(manifest: Manifest, counts: dict[str, int]) -> dict[str, Any]:
    """The coverage, where what was written is what had to be."""
    if manifest.rows != counts["good"] - counts["below_top"]:
        raise InputError(
            f"{manifest.date}: {counts['candidates']} candidates, but {manifest.rows} scores,"
            f" {counts['refused']} refused and {counts['below_top']} below score.top: nothing may"
            " be lost"
        )
    return {"coverage": counts["good"] / counts["candidates"]}


def _calibration(logs: Logs, store: Store, day: date) -> tuple[dict[str, float], list[Calibration]]:
    """What the scores published for ``day`` expected, where it is built by now."""
    scores = store.manifest(SCORES, day)
    if scores is None or store.manifest(EXAMPLES, day) is None:
        return {}, []
    spec = logs.spec
    shown = store.read(logs.spark, [unsampled_examples(store, day)])
    vocabulary, _ = open_vocabulary(logs.spark, store)
    for name in (spec.user, spec.item):
        shown = decode(shown, name, F.lit(spec[name].vocabulary), vocabulary)
    published = store.read(logs.spark, [scores])
    for name in (spec.user, spec.item):
        published = published.withColumn(name, F.col(name).cast("string"))
    return calibration(published, shown, [spec.user, spec.item])


def _shadow(
    logs: Logs, store: Store, candidates: Candidates, state: Manifest, model_name: str,
    version: int, config: ScoreConfig, scores: Manifest,
) -> None:  # fmt: skip
    """Score with another version too, and tell how its ranking differs."""
    day, spec = date.fromisoformat(scores.date), logs.spec
    with stage(f"{day} shadow") as report:
        folder, _ = _opened(logs, model_name, version)
        rows = _scored(logs, store, candidates, state, folder, config, day)
        rows = rows.withColumns(_signed(model_name, version, day))
        numbers: dict[str, float] = {}

        def look(manifest: Manifest) -> None:
            _reconciled(manifest, candidates.counts)
            theirs = logs.spark.read.parquet(*store.urls(manifest, hidden=True))
            ours = store.read(logs.spark, [scores])
            numbers.update(rankings_compared(ours, theirs, [spec.user, spec.item]))
            manifest.facts.update(numbers)

        facts = {"beside": scores.id, "model": model_name, "version": version}
        report.rows = store.publish(SHADOW, day, rows, facts, look).rows
    tracking.log_metrics({f"shadow_{name}": value for name, value in numbers.items()})
    told = ", ".join(
        f"{n.removeprefix('shadow_').replace('_', ' ')} {v:.3f}" for n, v in numbers.items()
    )
    console.print(f"  version {version} beside {scores.facts['version']}: {told}")


def _log(numbers: dict[str, Any], last: Manifest | None, curve: list[Calibration]) -> None:
    tracking.log_metrics({n: v for n, v in numbers.items() if n != "histogram"})
    before = np.array(last.facts["histogram"]) if last and "histogram" in last.facts else None
    tracking.log_figure(plots.score_histogram(np.array(numbers["histogram"]), before), "scores")
    if curve:
        title = "Calibration of the last night's scores"
        tracking.log_figure(plots.calibration_curve(curve, title), "calibration_of_scores")
