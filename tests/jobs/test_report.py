"""The reports that nights leave: their numbers are the manifests', in the store and in MLflow."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest

from din_model.errors import InputError
from din_model.registry import tracking
from jobs.nightly import score_and_report
from pipelines.observe.night import NightRecord
from pipelines.reports.terminal import impressions_reconciled
from pipelines.scoring.guards import GuardsConfig
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import DataFile
from pipelines.store.store import Store
from pipelines.training.gate import Decision
from tests.nights import NIGHTS
from tests.pages import Page, stands_alone


def told(store: Store, night: object) -> Page:
    return stands_alone(Path(store.base, "reports", f"{night}.html").read_text())


def test_every_report_has_the_numbers_of_its_night(nights):
    _, store, _ = nights
    for number, night in enumerate(NIGHTS):
        found = told(store, night).sections
        decision = store.manifest("nights", night).facts
        examples = store.manifest("examples", night)
        scores = store.manifest("scores", night + timedelta(days=1))
        assert f"scored {scores.rows:,} candidates for {scores.date}" in found[""]
        assert f"Gate: {decision['why']}." in found[""]
        for why, n in examples.facts["funnel"]["impressions"].items():
            assert why == "good" or f"{why} (broken) {n:,}" in found["Rows"] or "no fault" in why
        assert f"examples of the day {examples.rows:,}" in found["Rows"]
        assert f"rows {examples.rows:,}, before" in found["Quality of the day"]
        for values in decision["metrics"].values():
            assert f"{values['auc']:.4f} {values['gauc']:.4f}" in found["Gate"]
        for name, rows, clicks, auc in decision["slices"]:
            assert f"{name} {rows:,.0f} {clicks:,.0f}" in found["Slices"]
            assert all(f" {value:.4f}" in found["Slices"] for value in auc.values())
        assert ("no earlier scores" in found["Scores"]) == (number == 0)
        assert ("drift not measured" in found["Scores"]) == (number == 0)
        assert ("Not measured" in found["Calibration"]) == (number == 0)
        assert f"Training of version {decision['version']}" in found
        assert f"{scores.date} score {scores.rows:,}" in found["Time"]


@pytest.mark.parametrize(
    ("per_positive", "rows", "told"),
    [
        (0, 9, "impressions of 2026-11-20 11 = examples 9 + quarantined 2"),
        (4, 45, "of 2026-11-20 and 36 drawn rows: 47 = examples 45 + quarantined 2"),
        (4, 44, "≠ examples 44 + quarantined 2"),
    ],
)
def test_impressions_and_sampled_negatives_are_examples_or_in_quarantine(
    capsys, per_positive, rows, told
):
    facts = {"funnel": {"impressions": {"good": 9, "malformed": 2}}}
    files = (DataFile("part", rows, 1, 1),)
    impressions_reconciled(Manifest("examples", "2026-11-20", "r", files, facts), per_positive)
    assert told in capsys.readouterr().out


def test_the_evaluation_of_the_gate_is_recorded(nights):
    _, store, _ = nights
    for night in NIGHTS:
        decision, rows = (
            store.manifest("nights", night).facts,
            store.manifest("examples", night).rows,
        )
        assert decision["judged"] == str(night)
        assert sum(n for n, _, _ in decision["calibration"]) == rows
        for kind in ("history", "item", "interests"):
            assert sum(n for name, n, *_ in decision["slices"] if name.startswith(kind)) == rows


def test_the_run_of_a_night_has_its_report(nights):
    _, store, _ = nights
    runs = mlflow.search_runs(filter_string="tags.job = 'nightly'", output_format="list")
    names = {run.info.run_name for run in runs}
    assert {f"night {night}" for night in NIGHTS} <= names
    last = next(run for run in runs if run.info.run_name == f"night {NIGHTS[-1]}")
    logged = mlflow.artifacts.load_text(f"runs:/{last.info.run_id}/report.html")
    assert logged == Path(store.base, "reports", f"{NIGHTS[-1]}.html").read_text()
    said = last.data.tags["mlflow.note.content"]
    assert store.manifest("nights", NIGHTS[-1]).facts["why"] in said
    assert "\n- " in said


def test_a_night_that_a_guard_stops_has_a_report_with_its_numbers(nights, tmp_path):
    settings, store, _ = nights
    ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    copy = Store(str(shutil.copytree(store.base, tmp_path / "store", ignore=ignored)))
    guards = GuardsConfig(max_without_history=-0.1)
    settings = replace(settings, score=replace(settings.score, explain=1, guards=guards))
    logs, _ = settings.open("tests", NIGHTS[-1])
    decision = Decision(**store.manifest("nights", NIGHTS[-1]).facts)
    tracking.connect(settings.tracking, store.url)
    day = NIGHTS[-1] + timedelta(days=1)
    before = store.manifest("scores", day)
    with pytest.raises(InputError, match="without_history"), tracking.run("again", {}, {}):
        score_and_report(settings, logs, copy, decision, NightRecord("din", NIGHTS[-1]))
    assert copy.manifest("scores", day) == before
    found = told(copy, NIGHTS[-1]).sections
    assert "✖ held back" in found[""]
    assert "is above score.guards.max_without_history" in found[""]
    assert f"scores {before.rows:,}" in found["Rows"]
    assert f"{before.facts['without_history']:.4f} ≤ -0.1" in found["Scores"]
