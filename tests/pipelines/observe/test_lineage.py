"""OpenLineage events of a job and of what it publishes, as the client's own classes take them."""

import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from din_model.errors import InputError
from jobs.cli import Settings, main
from pipelines.observe.lineage import PRODUCER, _named
from pipelines.observe.watch import ObserveConfig, watched_job
from pipelines.store import plan
from pipelines.store.store import Store
from tests.nights import DEMO

DAY, NEXT = date(2026, 11, 22), date(2026, 11, 23)


def rebuilt(event: dict[str, Any]) -> dict[str, Any]:
    """The event, once the classes that are made of the published schema have checked it."""
    for holder in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        facets = holder.get("facets", {}) | holder.get("outputFacets", {})
        for facet in facets.values():
            assert facet["_producer"] == PRODUCER
            assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")
    RunEvent(
        eventType=RunState(event["eventType"]), eventTime=event["eventTime"],
        run=Run(**event["run"]), job=Job(**event["job"]), producer=event["producer"],
        inputs=[InputDataset(**each) for each in event["inputs"]],
        outputs=[OutputDataset(**each) for each in event["outputs"]],
    )  # fmt: skip
    assert event["producer"] == PRODUCER
    assert event["schemaURL"].endswith("/OpenLineage.json#/$defs/RunEvent")
    assert UUID(event["run"]["runId"]).version == 7
    assert datetime.fromisoformat(event["eventTime"]).tzinfo
    return event


def read(path: Path) -> list[dict[str, Any]]:
    return [rebuilt(json.loads(line)) for line in path.read_text().splitlines()]


def kinds(path: Path) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in read(path)]


def names(data_sets: list[dict[str, Any]]) -> dict[str, str]:
    """Version by name."""
    return {d["name"].split("/")[-1]: d["facets"]["version"]["datasetVersion"] for d in data_sets}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lineage.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def watched(path: Path, day: date | None = DAY):
    def run(settings: Settings, day: date) -> None: ...

    return watched_job(ObserveConfig(lineage_file=str(path)), "din", run, day)


def test_a_job_and_each_data_set_have_a_run_with_what_it_is_made_of(path, store):
    before = store.publish("state", DAY, None, {})
    with watched(path):
        sums = store.publish("counters", DAY, None, {})
        pins = plan.pins(before, sums)
        scores = store.publish("scores", NEXT, None, {"pins": pins})
    assert kinds(path) == [
        ("test_lineage", "START"),
        ("test_lineage.counters", "START"), ("test_lineage.counters", "COMPLETE"),
        ("test_lineage.scores", "START"), ("test_lineage.scores", "COMPLETE"),
        ("test_lineage", "COMPLETE"),
    ]  # fmt: skip
    start, *_, scored, end = read(path)
    assert start["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-22T00:00:00+00:00"
    assert start["run"]["runId"] == end["run"]["runId"] != scored["run"]["runId"]
    parent = scored["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == start["run"]["runId"]
    assert parent["job"] == {"namespace": "din", "name": "test_lineage", "facets": {}}
    version = {m.name: m.id.partition("/")[2] for m in (before, sums, scores)}
    assert names(scored["inputs"]) == {name: version[name] for name in ("state", "counters")}
    assert names(scored["outputs"]) == {"scores": version["scores"]}
    assert names(end["inputs"]) == {"state": version["state"]}, "counters are the job's own"
    assert set(names(end["outputs"])) == {"counters", "scores"}
    [output] = scored["outputs"]
    assert (output["namespace"], output["name"]) == ("file", f"{store.base}/scores")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 0


def test_a_publication_that_fails_has_no_output_and_names_the_reason(path, store):
    def refuse(_: object) -> None:
        raise InputError("drift: roll back; postgresql://din:pass1word@host/db")

    with pytest.raises(InputError), watched(path):
        store.publish("scores", NEXT, None, {}, refuse)
    _, _, failed, end = read(path)
    for event in (failed, end):
        assert (event["eventType"], event["outputs"]) == ("FAIL", [])
        facet = event["run"]["facets"]["errorMessage"]
        assert facet["message"] == "drift: roll back; postgresql://din:***@host/db"
        assert facet["programmingLanguage"] == "PYTHON"


def test_a_job_that_a_person_ends_is_aborted(path):
    with pytest.raises(KeyboardInterrupt), watched(path, None):
        raise KeyboardInterrupt
    assert kinds(path) == [("test_lineage", "START"), ("test_lineage", "ABORT")]


def test_a_second_job_appends_to_the_file(path):
    for _ in range(2):
        with watched(path):
            pass
    runs = [event["run"]["runId"] for event in read(path)]
    assert runs[0] == runs[1] != runs[2] == runs[3]


def test_a_file_that_cannot_be_written_is_a_warning_and_the_job_goes_on(tmp_path, store, capsys):
    with watched(tmp_path / "none" / "lineage.jsonl"):
        store.publish("state", DAY, None, {})
    assert store.manifest("state", DAY)
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith("  warning: observe.lineage_file: ")]
    assert len(warnings) == 2, "of the START, and of the end"


def test_a_broken_configuration_of_the_client_does_not_end_the_job(path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    Path("openlineage.yml").write_text("facets: {no_such_key: 1}")
    with watched(path):
        pass
    assert "warning: observe.lineage_file: " in capsys.readouterr().out


def test_only_the_first_rank_writes(path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with watched(path):
        pass
    assert not path.exists()


def test_a_job_without_the_library_does_not_begin(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    monkeypatch.delitem(sys.modules, "pipelines.observe.lineage")
    with pytest.raises(InputError, match=r"pip install 'din-pipeline\[lineage\]'"):
        watched(path)


def test_the_command_line_of_a_job_writes_its_lineage(path, monkeypatch, capsys):
    def run(settings: Settings, day: date) -> None: ...

    words = ["job", "--config", str(DEMO), "--date", "2026-11-22"]
    monkeypatch.setattr(sys, "argv", [*words, f"observe.lineage_file={path}"])
    main(run, None)
    assert kinds(path) == [("test_lineage", "START"), ("test_lineage", "COMPLETE")]
    run_id = read(path)[0]["run"]["runId"]
    assert capsys.readouterr().out == f"  lineage: run {run_id} in {path}\n"


@pytest.mark.parametrize(
    ("store_url", "expected"),
    [
        ("file:///srv/store#1", ("file", "/srv/store#1/scores")),
        ("s3://bucket/din/store", ("s3://bucket", "din/store/scores")),
        ("hdfs://name:8020/din", ("hdfs://name:8020", "/din/scores")),
    ],
)
def test_data_sets_are_named_by_the_conventions_of_openlineage(store_url, expected):
    assert _named(store_url, "scores") == expected
