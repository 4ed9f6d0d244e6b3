"""A watched night of generated logs: metrics, call and lineage tell what really happened."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from din_model.errors import InputError
from jobs import nightly
from jobs.cli import Settings
from jobs.nightly import score_and_report
from pipelines.observe.night import NightRecord
from pipelines.observe.watch import ObserveConfig, watched_job
from pipelines.scoring.guards import Breach, GuardsConfig
from pipelines.store.store import Store, StoreConfig
from pipelines.training.gate import Decision, StoppedError
from tests.conftest import NightsFixture
from tests.nights import NIGHTS, withdraw
from tests.pipelines.observe.records import server

NIGHT, SCORED = NIGHTS[-1], NIGHTS[-1] + timedelta(days=1)


def samples(path: Path, name: str) -> dict[str, float]:
    """Return a metric's values by its second label, or by '' if ``model`` is its only one."""
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    found = [sample for family in families for sample in family.samples if sample.name == name]
    assert {sample.labels["model"] for sample in found} <= {"din-demo"}
    return {"".join({**s.labels, "model": ""}.values()): s.value for s in found}


@pytest.fixture
def copied(nights: NightsFixture, tmp_path: Path) -> Settings:
    """The nights' settings on a copy of their store."""
    settings, store, _ = nights
    ignored = shutil.ignore_patterns("mlartifacts")  # the copied database finds the original's
    copy = shutil.copytree(store.base, tmp_path / "store", ignore=ignored)
    return replace(settings, store=StoreConfig(str(copy)))


def test_a_night_that_is_published_writes_the_numbers_of_its_record(nights, tmp_path):
    settings, store, _ = nights
    path = tmp_path / "din.prom"
    nightly.run(replace(settings, observe=ObserveConfig(metrics_file=str(path))), NIGHT)
    decision = store.manifest("nights", NIGHT).facts
    scores = store.manifest("scores", SCORED)
    assert samples(path, "din_night_state")["published"] == 1
    assert samples(path, "din_gate_version") == {"": decision["version"]}
    told = samples(path, "din_evaluation_auc")
    encoder = settings.train.model.encoder
    expected = {k: v["auc"] for k, v in decision["metrics"].items()}
    assert told == pytest.approx({"challenger": expected.pop(encoder)} | expected)
    assert samples(path, "din_guard_value")["coverage"] == scores.facts["coverage"]
    assert samples(path, "din_stage_rows")["score"] == scores.rows
    assert samples(path, "din_published_rows") == {}, "it was published before"


def test_a_night_that_fails_after_the_gate_keeps_the_gates_numbers(nights, tmp_path):
    settings, store, _ = nights
    decision = Decision(**store.manifest("nights", NIGHT).facts)
    record = NightRecord("din-demo", NIGHT)
    logs, _ = settings.open("tests", NIGHT)
    with pytest.raises(InputError, match="nothing is published"):
        score_and_report(settings, logs, Store(str(tmp_path)), decision, record)
    assert record.summary.decision == decision
    assert record.summary.scores is None


def test_a_night_that_the_gate_stops_has_the_gates_numbers(copied, tmp_path, monkeypatch):
    path = tmp_path / "din.prom"
    decision = Decision(**Store(copied.store.path).manifest("nights", NIGHT).facts)

    def stop(*_: object) -> None:
        raise StoppedError("no champion: train on more days", decision)

    monkeypatch.setattr(nightly, "decide", stop)
    with pytest.raises(StoppedError):
        nightly.run(replace(copied, observe=ObserveConfig(metrics_file=str(path))), NIGHT)
    assert samples(path, "din_night_state")["stopped"] == 1
    assert samples(path, "din_gate_version") == {"": decision.version}


def test_a_night_that_a_guard_holds_back_is_told_everywhere(copied, tmp_path, monkeypatch):
    path, lineage = tmp_path / "din.prom", tmp_path / "lineage.jsonl"
    withdraw(Store(copied.store.path), "scores", SCORED)
    observe = ObserveConfig(str(path), "${DIN_HOOK}", str(lineage))
    score = replace(copied.score, guards=GuardsConfig(max_without_history=-0.1))
    settings = replace(copied, observe=observe, score=score)
    with server() as (url, posts):
        monkeypatch.setenv("DIN_HOOK", url)
        with pytest.raises(Breach) as raised, watched_job(observe, "din", nightly.run, NIGHT):
            nightly.run(settings, NIGHT)
    assert samples(path, "din_night_state")["held_back"] == 1
    breached = samples(path, "din_guard_breached")
    assert [name for name, value in breached.items() if value] == ["without_history"]
    [(_, _, body)] = posts
    told = f"din-demo: the night of {NIGHT} is held back: {raised.value}"
    assert body["text"].replace("&lt;", "<").replace("&gt;", ">") == told
    events = [json.loads(line) for line in lineage.read_text().splitlines()]
    ends = {event["job"]["name"]: event for event in events if event["eventType"] != "START"}
    kinds = {name: event["eventType"] for name, event in ends.items()}
    assert kinds == {
        "nightly.refused": "COMPLETE", "nightly.scores": "FAIL", "nightly": "FAIL",
    }  # fmt: skip
    inputs = {each["name"].split("/")[-1] for each in ends["nightly.scores"]["inputs"]}
    assert inputs == {"state", "counters"}
    assert ends["nightly"]["run"]["facets"]["errorMessage"]["message"] == str(raised.value)
