"""Where runs go, what is logged with them, and errors of the server or database."""

import subprocess
import sys
from contextlib import suppress

import mlflow
import pytest

from din_model.config import expand, load
from din_model.errors import InputError
from din_model.registry import tracking
from din_model.registry.tracking import TrackingConfig


@pytest.mark.usefixtures("connected")
def test_the_experiment_is_tagged_as_model_development():
    experiment = mlflow.get_experiment_by_name(TrackingConfig().experiment)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_password_in_the_configuration_is_refused_and_not_repeated():
    for uri in (
        "https://u:se/cret@host",
        "postgresql://h/db?user=u&password=secret",
        "http://secret@h",
    ):
        with pytest.raises(
            InputError, match=r"^tracking\.uri contains a password: remove it, [^:]*$"
        ):
            TrackingConfig(uri=uri)
    load(TrackingConfig, [], ["uri=https://somebody:${PASSWORD}@host"])


def test_mlflows_telemetry_is_off(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    code = "import din_model.registry, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "true"


def test_the_path_of_the_store_may_hold_special_characters(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / "a[b]{c}#d%20e?f ü €"
    tracking.connect(TrackingConfig(), f"file://{store}")
    with tracking.run("x", {}, {}):
        tracking.log_text("text", "page.html")
    # MLflow makes an empty folder of the quoted name, too.
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(store) for path in files)
    assert (store / "mlflow.db") in files
    assert [path.read_text() for path in store.rglob("page.html")] == ["text"]


@pytest.mark.parametrize("damage", [b"\x07" * 3000, b"SQLite format 3\x00" + b"\x07" * 3000])
def test_a_damaged_database_is_a_tracking_error(tmp_path, monkeypatch, damage):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(damage)
    with pytest.raises(tracking.TrackingError):
        tracking.connect(TrackingConfig(), f"file://{tmp_path}")


@pytest.mark.usefixtures("connected")
def test_nothing_that_is_logged_holds_a_secret(monkeypatch):
    monkeypatch.setenv("PLACE", "hunter2!")
    place = expand("s3://${PLACE}/x")
    settings = {"store": {"path": place}, "sources": {"ü €": {"url": "x://u:hunter2!@h"}}}
    with tracking.run("secrets", {}, settings):
        run = tracking.active()
        tracking.log_params({"more": place})
        tracking.log_text(place, "page.html")
        tracking.log_dict({"a": place}, "data")
        tracking.log_examples("2026-11-20", place, "r", "training")
        tracking.describe_run(place)
    logged = mlflow.get_run(run)
    files = [
        mlflow.artifacts.load_text(f"runs:/{run}/{f}")
        for f in ("page.html", "data.json", "settings.json")
    ]
    assert "hunter2" not in f"{logged.to_dictionary()} {files}"
    assert logged.data.params["store.path"] == "s3://${PLACE}/x"
    assert logged.data.params["sources.ü _.url"] == "x://u:${PLACE}@h"


def test_a_store_elsewhere_needs_a_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="set a server; SQLite needs a store on local disk"):
        tracking.connect(TrackingConfig(), "s3://bucket/store")


@pytest.mark.usefixtures("connected")
def test_a_run_inside_a_run_is_nested_and_logs_the_configuration():
    with tracking.run("outer", {"job": "compare"}, {}):
        outer = tracking.active()
        with tracking.run("inner", {}, {"train": {"epochs": 3, "seed": None}}):
            inner = tracking.active()
            tracking.log_metrics({"auc": 0.7, "gauc": float("nan")}, step=2)
    logged = mlflow.get_run(inner)
    assert logged.data.tags["mlflow.parentRunId"] == outer
    assert logged.data.params == {"train.epochs": "3"}
    assert logged.data.metrics == {"auc": 0.7}, "nan is omitted"
    assert mlflow.get_run(outer).data.tags["job"] == "compare"


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_the_run_of_a_job_that_is_told_to_end_is_killed(end):
    with suppress(end), tracking.run("night", {}, {}):
        run = tracking.active()
        raise end
    assert mlflow.get_run(run).info.status == "KILLED"


@pytest.mark.usefixtures("connected")
def test_another_process_continues_the_run_of_the_first():
    with tracking.run("train", {}, {}):
        run = tracking.active()
    with tracking.rejoined(run):
        tracking.log_metrics({"loss": 0.5})
    assert mlflow.get_run(run).data.metrics == {"loss": 0.5}
