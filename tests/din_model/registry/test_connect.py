"""The tracking server of one connection is not that of the next."""

import os

from din_model.registry import tracking
from din_model.registry.tracking import TrackingConfig


def test_a_connection_does_not_decide_on_the_next_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("one", "two"):
        tracking.connect(TrackingConfig(), f"file://{tmp_path}/{name}")
        assert tracking.address() == f"sqlite:///{tmp_path}/{name}/mlflow.db"
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_the_variable_of_the_environment_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    tracking.connect(TrackingConfig(uri="http://localhost:1"), f"file://{tmp_path}/store")
    assert tracking.address() == os.environ["MLFLOW_TRACKING_URI"]
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mine.db"


def test_other_processes_do_not_get_the_password_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PLACE", f"{tmp_path}/hunter2.db")
    tracking.connect(TrackingConfig(uri="sqlite:///${PLACE}"), "s3://store")
    assert "hunter2" not in " ".join(v for k, v in os.environ.items() if k != "PLACE")
