"""Scores the candidates of a date and publishes the table."""

import time
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.config import Section, to_dict
from din_model.console import console, stage
from din_model.errors import InputError
from din_model.ranges import Count, Moment, Size
from din_model.registry import artifact, tracking, versions
from pipelines.caching import cached, caching
from pipelines.examples.counters import attach
from pipelines.examples.vectors import load_vectors
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.reading import files_of, fingerprint, naming_damaged
from pipelines.ingest.sources import start_of
from pipelines.scoring.candidates import CandidatesConfig
from pipelines.scoring.candidates import candidates as candidates_of
from pipelines.scoring.guards import GuardsConfig
from pipelines.scoring.scorer import (
    Candidates,
    Night,
    count_candidates,
    encode_candidates,
    restore_keys,
    score,
)
from pipelines.scoring.scores_check import ScoresCheck, reconcile
from pipelines.scoring.shadow import compare_rankings
from pipelines.scoring.udf import Task
from pipelines.shipping import ship
from pipelines.sinks.catalog import to_catalog
from pipelines.sinks.delta_table import to_delta
from pipelines.sinks.names import TABLE, identifiers
from pipelines.sinks.postgres import PostgresConfig, to_postgres
from pipelines.sinks.redis import RedisConfig, to_redis
from pipelines.store import plan
from pipelines.store.data_sets import COUNTERS, PINS, REFUSED, SCORES, SHADOW, STATE, VECTORS
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


@dataclass(frozen=True)
class ScoreConfig(Section):
    """How candidates are scored, and where the table goes.

    Attributes:
        model: null for the champion; else a version, ``@alias`` or ``models:/NAME/7``. A night uses
            the version that its gate decided.
        explain: number of behaviours with the largest weight to write with each score.
        top: number of best candidates per user to keep; null keeps all.
        shadow: another version (named as ``model``) that scores too; the difference between the
            rankings is reported.
        table: table of Spark's catalog that the published date is copied to.
        delta: folder or address of a Delta table that it is copied to; ``${VARIABLE}`` is replaced.
        postgres: table in PostgreSQL that it is copied to.
        redis: keys in Redis that it is copied to, one per user.
        replay: attach histories to the impressions of the date itself and compare them with those
            of the examples; nothing is published.
        as_of: score from the states, counters and vectors that were published then, to repeat an
            earlier table; null: those that are published now.
        guards: limits that hold a table back.
    """

    model: str | None = None
    explain: Count = 0
    top: Size | None = None
    shadow: str | None = None
    table: str | None = None
    delta: str | None = None
    postgres: PostgresConfig | None = None
    redis: RedisConfig | None = None
    replay: bool = False
    as_of: Moment | None = None
    guards: GuardsConfig = field(default_factory=GuardsConfig)

    def inputs(self, store: Store) -> Store:
        """Return the store to read from: as it is now, or as of a moment."""
        return store.at(datetime.fromisoformat(self.as_of)) if self.as_of else store

    def __post_init__(self) -> None:
        if self.table:
            identifiers(self.table, TABLE, 3)


class ModelVersion(NamedTuple):
    """A version of a registered model."""

    name: str
    version: int


@dataclass(frozen=True)
class _Job:
    """What every step of scoring a date needs."""

    logs: Logs
    store: Store
    inputs: Store  # what is read for the scores
    config: ScoreConfig
    day: date
    state: Manifest  # at the end of the day before
    sums: Manifest | None  # of the counters, at the same time

    @cached_property
    def vectors(self) -> dict[str, NDArray[Any]]:
        """The given vectors, loaded once for the model and its shadow."""
        return load_vectors(self.inputs, self.logs.spec, self.day - DAY)


@caching()
def score_day(
    logs: Logs, store: Store, model: ModelVersion, config: ScoreConfig, day: date,
    rules: CandidatesConfig | None = None,
) -> Manifest:  # fmt: skip
    """Score every candidate of ``day`` with a version and the state of the day before.

    A table published from the same inputs is not scored again, but delivered again.

    Args:
        logs: the candidates and the spec.
        store: where state and scores are published.
        model: the version.
        config: how to score.
        day: the date.
        rules: how candidates are generated if ``sources.candidates`` is not set.

    Raises:
        InputError: no state or candidates, counts that do not add up, or numbers outside the limits
            of pipelines.scoring.guards. The published table stays.
    """
    with store.job():
        return _score_day(logs, store, model, config, day, rules)


def _score_day(
    logs: Logs, store: Store, model: ModelVersion, config: ScoreConfig, day: date,
    rules: CandidatesConfig | None,
) -> Manifest:  # fmt: skip
    started = time.perf_counter()
    inputs = config.inputs(store)
    state = inputs.require(STATE, day - DAY, "run jobs.build_sequences for it")
    job = _Job(logs, store, inputs, config, day, state, _open_sums(logs, inputs, day))
    with stage(f"{day} score") as report:
        marked = candidates_of(logs, store, day, rules)
        folder, metadata = _open_model(logs, model)
        origin = _origin(job, model, rules, fingerprint(logs.spark, [marked]), metadata)
        before = store.manifest(SCORES, day)
        if before and plan.made_of(before, origin):
            report.rows, report.note = before.rows, "published already, from the same inputs"
            _deliver(job, before)
            return before
        with naming_damaged(logs.spark, files_of([marked])):
            candidates = _count_candidates(job, marked)
        rows = _score(job, candidates, folder, model)
        store.publish(REFUSED, day, candidates.refused, candidates.counts)
        check = ScoresCheck(logs, store, config.guards, day, candidates.counts, metadata, started)
        manifest = store.publish(SCORES, day, rows, origin | candidates.counts, check)
        report.rows, report.note = manifest.rows, f"{candidates.counts['refused']:,} refused"
    tracking.log_params(
        {"scored": day, "version": model.version, "state": state.id, "scores": manifest.id}
    )
    _deliver(job, manifest)
    if config.shadow:
        other = ModelVersion(model.name, versions.resolve(model.name, config.shadow))
        _score_shadow(job, candidates, other, manifest)
    return manifest


def _open_sums(logs: Logs, store: Store, day: date) -> Manifest | None:
    if not logs.spec.counters:
        return None
    return store.require(COUNTERS, day - DAY, "run jobs.build_sequences for it")


def _open_model(logs: Logs, model: ModelVersion) -> tuple[Path, artifact.ModelMetadata]:
    """Fetch a version; return its folder and metadata."""
    folder = versions.download(*model)
    loaded, metadata = artifact.load(folder)
    if loaded.spec.hash != logs.spec.hash:
        raise InputError(
            f"{model.name} version {model.version} was trained with another spec than features and"
            " history now give: train again, or restore them"
        )
    return folder, metadata


def _origin(
    job: _Job, model: ModelVersion, rules: CandidatesConfig | None, inputs: dict[str, Any],
    metadata: artifact.ModelMetadata,
) -> dict[str, Any]:  # fmt: skip
    """Return everything that the scores depend on."""
    vectors = [m for m in job.inputs.manifests(VECTORS) if m.date < str(job.day)]
    return {
        PINS: plan.pins(job.state, job.sums, *vectors),
        "model": model.name,
        "version": model.version,
        "explain": job.config.explain,
        "top": job.config.top,
        "rules": None if job.logs.sources.candidates or not rules else to_dict(rules),
        "inputs": inputs,
        "fingerprint": metadata.fingerprint,
    }


def _count_candidates(job: _Job, marked: DataFrame) -> Candidates:
    """Encode the candidates, attach their counters, and count the candidates.

    Raises:
        InputError: none can be scored; a join has lost or doubled some.
    """
    vocabulary, _ = open_vocabulary(job.logs.spark, job.inputs)
    marked = cached(marked)
    given = marked.count()
    rows = encode_candidates(marked, job.logs.spec, vocabulary)
    if job.sums:
        sums = job.inputs.read(job.logs.spark, [job.sums])
        rows = attach(rows, sums, job.logs.spec, start_of(job.day, job.logs.spec.time_zone))
    candidates = count_candidates(rows, given, job.config.top)
    if candidates.counts["good"] == 0:
        raise InputError(
            f"no candidate for {job.day} can be scored, {candidates.counts['refused']} are refused:"
            " see the reasons in data set refused of an earlier date, or correct the table"
        )
    return candidates


def _score(job: _Job, candidates: Candidates, folder: Path, model: ModelVersion) -> DataFrame:
    """Return the scores with the keys of users and items, signed by model and version."""
    logs = job.logs
    task = Task(start_of(job.day, logs.spec.time_zone), job.config.explain, job.config.top)
    night = Night(logs.spec, ship(logs.spark, folder, job.vectors), task)
    state = job.inputs.read(logs.spark, [job.state])
    rows = score(candidates.good, candidates.sizes, state, night)
    vocabulary, _ = open_vocabulary(logs.spark, job.inputs)
    return restore_keys(rows, logs.spec, vocabulary).withColumns(
        {
            "model": F.lit(model.name),
            "model_version": F.lit(model.version),
        }
    )


def _deliver(job: _Job, manifest: Manifest) -> None:
    """Copy the published scores to the configured sinks."""
    rows = job.store.read(job.logs.spark, [manifest]).withColumn("date", F.lit(str(job.day)))
    if job.config.table:
        to_catalog(rows, job.config.table, job.day)
    if job.config.delta:
        to_delta(rows, job.config.delta, job.day, manifest.rows)
    if job.config.postgres:
        to_postgres(rows, job.config.postgres, job.day, manifest.rows)
    if job.config.redis:
        to_redis(rows, job.config.redis, manifest)


def _score_shadow(job: _Job, candidates: Candidates, model: ModelVersion, scores: Manifest) -> None:
    """Score with another version too, and report how its ranking differs."""
    keys = [f.log_name for f in job.logs.spec.user_and_item]
    differences: dict[str, float] = {}

    def check_shadow(manifest: Manifest) -> None:
        reconcile(manifest, candidates.counts)
        shadow = job.store.read(job.logs.spark, [manifest])
        published = job.store.read(job.logs.spark, [scores])
        differences.update(compare_rankings(published, shadow, keys))
        manifest.facts.update(differences)

    with stage(f"{job.day} shadow") as report:
        folder, _ = _open_model(job.logs, model)
        rows = _score(job, candidates, folder, model)
        facts = {PINS: plan.pins(scores), "model": model.name, "version": model.version}
        report.rows = job.store.publish(SHADOW, job.day, rows, facts, check_shadow).rows
    tracking.log_metrics({f"shadow_{name}": value for name, value in differences.items()})
    text = ", ".join(f"{name.replace('_', ' ')} {v:.3f}" for name, v in differences.items())
    console.print(f"  version {model.version} beside {scores.facts['version']}: {text}")
