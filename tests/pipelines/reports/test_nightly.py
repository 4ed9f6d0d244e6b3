"""The page of a night says what its manifests say, harmlessly, and also what nobody measured."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import mlflow
import pytest

from din_model.console import Stage
from din_model.registry import tracking, versions
from din_model.registry.tracking import TrackingConfig
from pipelines.reports.explanation import Explained, Offer, Reason
from pipelines.reports.nightly import NightSummary, page, trends
from pipelines.scoring.guards import GuardsConfig
from pipelines.store.manifest import Manifest
from pipelines.store.parquet import DataFile
from pipelines.store.store import Store
from pipelines.training.gate import Decision, NightlyConfig
from tests.pages import stands_alone

DAY = date(2026, 11, 22)
NEXT = DAY + timedelta(days=1)
EVIL = "<script>alert(1)</script> & \"quoted\" 'name'"
METRICS = {"auc": 0.8159, "gauc": 0.7913, "log_loss": 0.4376, "calibration": 0.8503}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> int:
    """A version out of a run that trained twice, the second time after it was registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking.connect(TrackingConfig(), Store(str(tmp_path_factory.mktemp("runs"))).url)
    client = mlflow.MlflowClient()
    client.create_registered_model("din")
    with tracking.run("night", {}, {}):
        for step in range(1, 4):
            tracking.log_metrics({"loss": 9.0}, step)  # of a training that began again
        for step in range(1, 6):
            tracking.log_metrics({"loss": 0.7 - step / 10}, step)
        made = client.create_model_version("din", "runs:/none", tracking.active())
        mlflow.log_metric("loss", 5.0, 1, timestamp=made.creation_timestamp + 1000)
    return int(made.version)


def facts(rows: int) -> dict:
    funnel = {"behaviours": {"good": 7}, "impressions": {"good": 990, "malformed": rows - 990}}
    quality = {"rows": rows, "label_rate": rows / 5000, "null.item_id": None}
    return {"funnel": funnel, "quality": quality, "sample_rate": 1.0}


def told(version: int, **more) -> NightSummary:
    decision = Decision(
        version, "promoted: gauc gain 0.0213 [0.0113, 0.0313] of version 1 over champion 7",
        {"din": METRICS, "base rate": METRICS | {"auc": 0.5, "gauc": 0.5}}, 0.05,
        [0.0213, 0.0113, 0.0313], str(DAY), [[100, 0.1, 0.09], [100, 0.4, 0.5]],
        [["history: 0", 12345.0, 77.0, {"challenger": 0.7071}]],
    )  # fmt: skip
    numbers = {
        "candidates": 1200, "good": 1190, "refused": 3, "below_top": 7, "coverage": 0.9975,
        "histogram": [0] * 90 + [1190] + [0] * 109, "mean_score": 0.0747,
    }  # fmt: skip
    scores = Manifest("scores", str(NEXT), "r", (DataFile("a", 1190, 9, 1),), numbers)
    stages = [Stage("train din", 4321, "in 3 epochs", 12.5, datetime.now(UTC))]
    offers = (Offer(1, EVIL, 0.417, (Reason(0.092, "clicks", EVIL),)),)
    best = Explained("u0000050", 37, offers)
    night = NightSummary(
        "din", decision, scores, stages, best, NightlyConfig(), GuardsConfig(), "din"
    )
    return replace(night, **more)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.publish("examples", DAY, None, facts(1000))
    return store


def test_the_page_has_the_numbers_of_the_manifests(version, store):
    found = stands_alone(page(store, told(version), DAY)).sections
    assert "▲ promoted" in found[""]
    assert "scored 1,190 candidates for 2026-11-23" in found[""]
    assert "10 broken rows in impressions (1.00%)" in found[""]
    assert "jobs.rollback" in found[""]
    assert "impressions of 2026-11-22" in found["Rows"]
    assert "malformed (broken) 10" in found["Rows"]
    assert "scores 1,190" in found["Rows"]
    assert "below score.top 7" in found["Rows"]
    gate = found["Gate"]
    assert gate.index("din 0.8159 0.7913 0.4376 0.8503") < gate.index("base rate 0.5000 0.5000")
    assert "history: 0 12,345 77 0.7071" in found["Slices"]
    assert "coverage 0.9975 ≥ 0.99" in found["Scores"]
    assert "a user with 37 behaviours" in found["An example"]
    assert "train din 4,321 12.5 in 3 epochs" in found["Time"]


def test_missing_measurements_are_named(version, store):
    """A first night: no champion, no day and no scores before it; nothing else was asked for."""
    plain = Decision(version, "version 1 is the champion already", {}, 0.05)
    night = told(version, decision=plain, explained=None, stages=[])
    night.scores.facts.pop("histogram")
    found = stands_alone(page(store, night, DAY)).sections
    assert "no day before" in found["Quality of the day"]
    for heading, words in {
        "Gate": "Not measured: no two versions were compared",
        "Calibration": "Not measured: no scores were published for 2026-11-22",
        "Scores": "drift not measured ≤ 0.5",
        "Slices": "Not measured",
        "An example": "Not measured: score.explain is 0",
        "Time": "Not measured",
    }.items():
        assert words in found[heading]
    assert found["Calibration"].count("Not measured") == 2
    assert "Not measured: no version was evaluated that night." in found["Gate"]
    assert "Metrics beside baselines" not in found["Gate"]


def test_keys_are_escaped_and_no_user_is_named(version, store):
    text = page(store, told(version, breach=EVIL), DAY)
    found = stands_alone(text).sections
    assert found["An example"].count(EVIL) == 2
    assert EVIL in found[""]
    assert "<script>" not in text
    assert "u0000050" not in text, "MLflow keeps a copy that no erasure reaches"


def test_a_breach_is_the_headline(version, store):
    breach = "scores of 2026-11-23 are held back: drift 0.9000 is above score.guards.max_drift 0.5"
    found = stands_alone(page(store, told(version, breach=breach, explained=None), DAY)).sections
    assert "✖ held back The scores for 2026-11-23 are not published" in found[""]
    assert f"{breach[0].upper()}{breach[1:]}." in found[""]
    assert "Readers still see the table" in found[""]
    assert "promoted Version" not in found[""]
    assert "the table is held back" in found["An example"]


def test_a_night_that_the_gate_stopped_shows_what_was_evaluated(version, store):
    stopped = Decision(version, "stopped: gauc gain 0.1 …", {"din": METRICS}, 0.05)
    night = told(version, decision=stopped, scores=None, explained=None)
    sections = stands_alone(page(store, night, DAY)).sections
    assert "■ stopped The gate stopped the night: nothing was scored" in sections[""]
    assert "No version scored this night" in sections[""]
    assert "din 0.8159 0.7913 0.4376 0.8503" in sections["Gate"]
    assert "candidates for" not in sections["Rows"]
    assert "nothing was scored" in sections["An example"]


def test_a_baseline_that_beats_the_deciding_version_is_named(version, store):
    night = told(version)
    better = METRICS | {"gauc": 0.8}
    decision = replace(night.decision, metrics=night.decision.metrics | {"popularity": better})
    sections = stands_alone(page(store, replace(night, decision=decision), DAY)).sections
    assert "The baseline popularity wins: GAUC 0.8000, din 0.7913." in sections[""]


def test_the_deciding_version_stands_beside_the_best_baseline_at_the_head(version, store):
    night = told(version)
    better, worse = METRICS | {"gauc": 0.8}, METRICS | {"gauc": 0.7}
    metrics = {"din": METRICS, "champion": better, "popularity": worse, "base rate": METRICS}
    for why, first in {
        "promoted: …": "GAUC of din 0.7913",
        "kept champion 7: …": "GAUC of champion 0.8000",
        "champion 7 has seen every day": "GAUC of champion 0.8000",
    }.items():
        decision = replace(night.decision, why=why, metrics=metrics)
        head = stands_alone(page(store, replace(night, decision=decision), DAY)).sections[""]
        assert f"{first} GAUC of base rate 0.7913 scores 1,190" in head
    assert "Brackets hold the 95% interval." in head


def test_a_number_that_was_not_measured_is_not_at_the_head(version, store):
    """A backfill evaluates nothing, and its version is another night's."""
    decision = replace(told(version).decision, why="backfill: the version of 2026-11-20")
    head = stands_alone(page(store, told(version, decision=decision), DAY)).sections[""]
    assert "GAUC of" not in head
    assert "drift" not in head
    assert "coverage 0.9975" in head


@pytest.mark.parametrize(("beat", "told_so"), [(True, True), (False, False)])
def test_the_rule_of_the_gate_names_popularity_if_it_counts(version, store, beat, told_so):
    night = told(version, nightly=NightlyConfig(beat_popularity=beat))
    gate = stands_alone(page(store, night, DAY)).sections["Gate"]
    assert ("right of the dashed line, and if it also surely beats popularity." in gate) == told_so


def test_links_to_the_sections_are_large_enough_for_a_thumb(version, store):
    assert "nav a { display: block; padding: .4rem 0; }" in page(store, told(version), DAY)


@pytest.mark.parametrize(
    ("why", "mark"),
    [("kept champion 7: …", "● kept"), ("backfill: the version of 2026-11-20", "↺ backfill")],
)
def test_the_verdict_is_a_mark_and_a_word(version, store, why, mark):
    night = told(version)
    night = replace(night, decision=replace(night.decision, why=why))
    assert mark in stands_alone(page(store, night, DAY)).sections[""]


def test_drift_and_miscalibration_are_pointed_out(version, store):
    night = told(version)
    night.scores.facts.update(drift=0.31, expected=300.0, clicks=200.0)
    said = stands_alone(page(store, night, DAY)).sections[""]
    assert "drift 0.310" in said
    assert "predicted 1.50 times the clicks" in said


def test_a_day_is_shown_with_the_fourteen_published_days_before(store):
    for back in range(1, 21):
        store.publish("examples", DAY - timedelta(days=back), None, facts(1000 + back))
    store.publish("examples", NEXT, None, facts(9999))
    found = {trend.name: trend for trend in trends(store, DAY)}
    rows = found["rows"]
    assert (rows.now, rows.before, rows.low, rows.high) == (1000, 1001, 1000, 1014)
    assert len(rows.points.split()) == 15
    assert rows.points.endswith("120.0,32.0")
    assert rows.points.startswith("0.0,0.0")
    assert "null.item_id" not in found


def test_the_training_curve_is_that_of_the_versions_own_training(version):
    assert versions.losses("din", version) == [
        (s, pytest.approx(0.7 - s / 10)) for s in range(1, 6)
    ]


def test_a_version_without_a_run_has_no_curve(version):
    made = mlflow.MlflowClient().create_model_version("din", "runs:/none")
    assert versions.losses("din", int(made.version)) == []
