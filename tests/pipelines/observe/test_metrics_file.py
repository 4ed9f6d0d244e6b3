"""The file for Prometheus: what its own parser reads of nights that end well and badly."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from din_model.config import build
from din_model.errors import InputError
from pipelines.observe.metrics_file import write
from pipelines.observe.watch import ObserveConfig, watched_night
from pipelines.scoring.guards import Breach
from pipelines.training.gate import StoppedError
from tests.pipelines.observe.records import BEGAN, DAY, HELD, night, published, summary

END = (BEGAN + timedelta(hours=1)).timestamp()
LAST_SUCCESS = "din_night_last_success_timestamp_seconds"


def samples(path: Path) -> dict[str, float]:
    """Value by name, with the labels other than ``model`` behind it."""
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model") == "din"
            assert sample.name.startswith("din_")
            found["/".join([sample.name, *labels.values()])] = sample.value
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "din.prom"


def test_a_published_night_is_told_with_its_numbers(path):
    sets = [published("examples", 100), published("examples", 50), published("scores", 9)]
    write(str(path), night(published=sets, summary=summary()))
    found = samples(path)
    expected = {
        "din_night_state/published": 1, "din_night_state/held_back": 0,
        "din_night_state/stopped": 0, "din_night_state/failed": 0,
        "din_night_date_timestamp_seconds": datetime(2026, 11, 22, tzinfo=UTC).timestamp(),
        "din_night_end_timestamp_seconds": END, LAST_SUCCESS: END,
        "din_night_duration_seconds": 3600,
        "din_stage_duration_seconds/examples": 2.5, "din_stage_duration_seconds/train din": 12.5,
        "din_stage_rows/examples": 150, "din_stage_rows/train din": 4321,
        "din_published_rows/examples": 150, "din_published_rows/scores": 9,
        "din_gate_promoted": 1, "din_gate_version": 8,
        "din_gate_gain/point": 0.02, "din_gate_gain/low": 0.01, "din_gate_gain/high": 0.03,
        "din_evaluation_auc/challenger": 0.82, "din_evaluation_auc/champion": 0.81,
        "din_evaluation_auc/base rate": 0.5, "din_evaluation_gauc/challenger": 0.79,
        "din_evaluation_log_loss/challenger": 0.43, "din_evaluation_log_loss/champion": 0.44,
        "din_evaluation_log_loss/base rate": 0.6,
        "din_evaluation_calibration_ratio/challenger": 1.05,
        "din_evaluation_calibration_ratio/champion": 0.97,
        "din_evaluation_calibration_ratio/base rate": 1.0,
        "din_guard_value/coverage": 0.99, "din_guard_value/drift": 0.7,
        "din_guard_value/calibration": 1.5,
        "din_guard_limit/coverage": 0.99, "din_guard_limit/drift": 0.5,
        "din_guard_limit/calibration": 2, "din_guard_limit/unknown_users": 0.9,
        "din_guard_limit/without_history": 0.9,
        "din_guard_breached/coverage": 0, "din_guard_breached/drift": 0,
        "din_guard_breached/calibration": 0,
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_a_night_that_is_held_back_names_the_guard_and_keeps_the_last_success(path):
    write(str(path), night(summary=summary()))
    later = BEGAN + timedelta(days=1)
    breached = summary(breach=HELD, breached=("drift",))
    refused = [published("scores", 9, Breach(HELD, ["drift"]))]
    write(str(path), night(Breach(HELD), later, published=refused, summary=breached))
    found = samples(path)
    assert (found["din_night_state/held_back"], found["din_night_state/published"]) == (1, 0)
    assert (found["din_guard_breached/drift"], found["din_guard_breached/coverage"]) == (1, 0)
    assert found["din_published_rows/scores"] == 0
    assert found["din_night_end_timestamp_seconds"] == END + 86400
    assert found[LAST_SUCCESS] == END


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StoppedError("no champion", summary().decision), "stopped"),
        (InputError("a log is missing"), "failed"),
        (KeyError("a bug"), "failed"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_a_night_that_ends_before_the_gate_writes_a_file_too(path, error, state):
    config = ObserveConfig(metrics_file=str(path))
    with pytest.raises(type(error)), watched_night(config, "din", DAY):
        raise error
    found = samples(path)
    assert found[f"din_night_state/{state}"] == 1
    assert found["din_night_date_timestamp_seconds"] > 0
    assert LAST_SUCCESS not in found
    assert not [name for name in found if name.startswith(("din_evaluation", "din_guard"))]


def test_a_reader_sees_the_old_file_or_the_new_one(path):
    write(str(path), night())
    before = path.read_text()
    with path.open() as opened:
        write(str(path), night(InputError("a log is missing")))
        assert opened.read() == before
    assert path.read_text() != before
    assert list(path.parent.iterdir()) == [path], "no temporary file remains"


def test_a_damaged_file_is_written_anew(path):
    path.write_bytes(b'din_night_state{model="din\xff')
    write(str(path), night(InputError("a log is missing")))
    assert samples(path)["din_night_state/failed"] == 1


def test_the_last_success_of_another_model_is_not_taken(path):
    write(str(path), night())
    path.write_text(path.read_text().replace('model="din"', 'model="other"'))
    write(str(path), night(InputError("a log is missing")))
    assert LAST_SUCCESS not in samples(path)


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path, capsys):
    config = build(ObserveConfig, {"metrics_file": f"{tmp_path}/none/din.prom"}, "test")
    with watched_night(config, "din", DAY):
        pass
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("  warning: observe.metrics_file: ")
    assert "No such file or directory" in line


def test_a_night_without_the_library_does_not_begin(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pipelines.observe.metrics_file")
    with (
        pytest.raises(InputError, match=r"pip install 'din-pipeline\[prometheus\]'"),
        watched_night(ObserveConfig(metrics_file=str(path)), "din", DAY),
    ):
        pytest.fail("the night begins")


def test_nothing_is_written_by_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with watched_night(ObserveConfig(), "din", DAY):
        pass
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
