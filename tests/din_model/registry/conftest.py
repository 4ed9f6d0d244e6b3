"""One MLflow database for all tests of the registry, because creating one takes seconds."""

from itertools import count
from pathlib import Path

import pytest

from din_model.registry import tracking, versions
from din_model.registry.artifact import ModelMetadata, save
from din_model.registry.tracking import TrackingConfig
from tests.din_model.conftest import some_model

NUMBERS = count(1)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def connected(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow points at the database, wherever an earlier test has pointed it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect(TrackingConfig(), f"file://{database}")


@pytest.fixture
def name(connected: None, tmp_path: Path) -> str:
    """A registered model of the test's own, with versions 1 to 3 of fingerprints a to c."""
    name = f"m{next(NUMBERS)}"
    save(tmp_path / "model", some_model(), ModelMetadata("2026-11-21", "f", logit_shift=-0.7))
    with tracking.run("test", {}, {}):
        for fingerprint in ("a", "b", "c"):
            versions.register(name, tmp_path / "model", fingerprint, {})
    return name
