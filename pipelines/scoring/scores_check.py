"""Checks the written scores of a date before they are published."""

import time
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.evaluation import plots
from din_model.evaluation.calibration import Calibration
from din_model.registry import artifact, tracking
from pipelines.columns import column
from pipelines.examples.publish import unsampled_examples
from pipelines.examples.vocabulary import decode, open_vocabulary
from pipelines.ingest.logs import DAY, Logs
from pipelines.scoring.guards import (
    Breach,
    GuardsConfig,
    calibration,
    change,
    check,
    compare,
    measure,
)
from pipelines.store.data_sets import EXAMPLES, SCORES
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


@dataclass(frozen=True)
class ScoresCheck:
    """Measures the written scores, logs the numbers, and checks them against the guards.

    Attributes:
        logs: the spec and the session.
        store: where the scores are published.
        guards: the limits.
        day: the date.
        counts: of the candidates.
        metadata: of the model.
        started: when the job began, in seconds of ``time.perf_counter``.
    """

    logs: Logs
    store: Store
    guards: GuardsConfig
    day: date
    counts: dict[str, int]
    metadata: artifact.ModelMetadata
    started: float

    def __call__(self, manifest: Manifest) -> None:
        """Add the numbers to the facts of a written table.

        Raises:
            InputError: rows were lost or doubled.
            Breach: a number is outside its limits.
        """
        last = self.store.before(SCORES, self.day)
        numbers = reconcile(manifest, self.counts)
        numbers |= measure(self.store.read(self.logs.spark, [manifest]))
        numbers |= compare(numbers, last.facts if last else None, self.metadata.scores)
        expected, curve = _calibration_of_last_scores(self.logs, self.store, self.day - DAY)
        numbers |= expected
        rate = manifest.rows / (time.perf_counter() - self.started)
        _log(numbers | {"rows_per_s": rate}, last, curve)
        manifest.facts.update(numbers | {"calibration": [list(bucket) for bucket in curve]})
        same = last is not None and last.facts.get("version") == manifest.facts["version"]
        # The gate has judged a new version, whose scores may well be spread otherwise.
        guards = self.guards if same else replace(self.guards, max_drift=None)
        try:
            check(
                numbers, guards, str(self.day), change(manifest.facts, last.facts if last else None)
            )
        except Breach as breach:
            breach.held = manifest
            raise


def reconcile(manifest: Manifest, counts: dict[str, int]) -> dict[str, Any]:
    """Return the coverage.

    Raises:
        InputError: the rows written do not add up to the candidates.
    """
    if manifest.rows != counts["good"] - counts["below_top"]:
        raise InputError(
            f"{manifest.date}: {counts['candidates']} candidates, but {manifest.rows} scores,"
            f" {counts['refused']} refused and {counts['below_top']} below score.top: rows were"
            " lost or doubled, which is a bug"
        )
    return {"coverage": counts["good"] / counts["candidates"]}


def _calibration_of_last_scores(
    logs: Logs, store: Store, day: date
) -> tuple[dict[str, float], list[Calibration]]:
    """Compare the scores of a day with its clicks, if the day is built."""
    scores = store.manifest(SCORES, day)
    if scores is None or store.manifest(EXAMPLES, day) is None:
        return {}, []
    keys = logs.spec.user_and_item
    impressions = store.read(logs.spark, [unsampled_examples(store, day)])
    vocabulary, _ = open_vocabulary(logs.spark, store)
    named = [column(f.log_name).cast("string").alias(f.name) for f in keys]
    published = store.read(logs.spark, [scores]).select("score", *named)
    for f in keys:
        impressions = decode(impressions, f.name, F.lit(f.vocabulary), vocabulary)
    return calibration(published, impressions, [f.name for f in keys])


def _log(numbers: dict[str, Any], last: Manifest | None, curve: list[Calibration]) -> None:
    tracking.log_metrics({n: v for n, v in numbers.items() if n != "histogram"})
    before = np.array(last.facts["histogram"]) if last and "histogram" in last.facts else None
    tracking.log_figure(plots.score_histogram(np.array(numbers["histogram"]), before), "scores")
    if curve:
        title = "Calibration of the last night's scores"
        tracking.log_figure(plots.calibration_curve(curve, title), "calibration_of_scores")
