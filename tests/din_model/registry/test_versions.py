"""Versions, the champion's alias and its way back, on a real MLflow store."""

import subprocess
import sys
from pathlib import Path

import pytest

from din_model.config import expand, load
from din_model.errors import InputError
from din_model.registry import tracking, versions
from din_model.registry.artifact import ModelMetadata, save
from din_model.registry.tracking import TrackingConfig
from tests.din_model.conftest import some_model


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect(TrackingConfig(), f"file://{tmp_path}")
    save(tmp_path / "model", some_model(), ModelMetadata("2026-11-21", "f"))
    with tracking.run("test", {}, {}):
        for fingerprint in ("a", "b", "c"):
            versions.register("m", tmp_path / "model", fingerprint, {})
    return "m"


def test_the_title_moves_and_comes_back_step_by_step(name):
    assert versions.champion(name) is None
    assert versions.champion("nobody") is None
    for version in (1, 2, 3):
        versions.promote(name, version)
        versions.promote(name, version)  # twice is once
        assert versions.champion(name) == version
    assert versions.rollback(name) == (3, 2)
    assert versions.rollback(name) == (2, 1)
    with pytest.raises(InputError, match="'m' version 1 has no previous champion"):
        versions.rollback(name)
    assert versions.champion(name) == 1


def test_mlflow_shows_the_experiment_as_one_of_training(name):
    experiment = versions.mlflow.get_experiment_by_name(TrackingConfig().experiment)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_what_was_made_of_the_same_is_found_again(name):
    assert [versions.find(name, f) for f in ("a", "b", "c", "d")] == [1, 2, 3, None]
    model, facts = versions.load(name, 2)
    assert facts.trained_through == "2026-11-21"
    assert model.spec == some_model().spec


def test_a_wanted_model_is_resolved_to_one_version_or_refused(name):
    versions.promote(name, 2)
    wanted = (None, "2", "@champion", "models:/m/2", "models:/m@champion")
    assert {versions.resolve(name, w) for w in wanted} == {2}
    for missing in ("9", "@nobody", "models:/m/9"):
        with pytest.raises(InputError, match=r"no model 'm' with (version 9|alias nobody) at"):
            versions.resolve(name, missing)


def test_a_version_is_described_by_its_card_as_far_as_a_server_has_room(name):
    card = "# m\n" + "| a feature | of the item | string | 8 |\n" * 300
    with tracking.run("card", {}, {}):
        run = tracking.active()
        versions.describe(name, 3, card)
    described = versions.mlflow.MlflowClient().get_model_version(name, "3").description
    assert len(described) <= 5000
    assert described.endswith("8 |\n\n… see model_card.md of the run")
    assert versions.mlflow.artifacts.load_text(f"runs:/{run}/model_card.md") == card


def test_a_password_in_the_address_is_not_told(name, monkeypatch):
    monkeypatch.setattr(versions, "address", lambda: "https://somebody:sec/ret@host/mlflow")
    with pytest.raises(InputError, match=r"at https://somebody:\*\*\*@host/mlflow: train"):
        versions.resolve(name, "9")


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


def test_a_server_that_does_not_answer_is_not_a_registry_without_a_champion(name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    versions.mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(tracking.TrackingError):
        versions.champion(name)


def test_a_version_whose_files_are_gone_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(versions.mlflow.artifacts, "download_artifacts", lambda _: str(tmp_path))
    with pytest.raises(InputError, match="m version 3: its files are missing in MLflow"):
        versions.download("m", 3)


def test_mlflow_reports_nothing_to_its_makers(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    code = "import din_model.registry.versions, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "true"


@pytest.mark.parametrize("folder", ["a[b]{c}", "a#b", "a%20b", "a?b", "ü €"])
def test_every_character_of_the_stores_path_stands_for_itself(tmp_path, monkeypatch, folder):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / folder
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


def test_nothing_that_is_logged_holds_a_secret(name, monkeypatch):
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
    logged = versions.mlflow.get_run(run)
    files = [
        versions.mlflow.artifacts.load_text(f"runs:/{run}/{f}")
        for f in ("page.html", "data.json", "settings.json")
    ]
    assert "hunter2" not in f"{logged.to_dictionary()} {files}"
    assert logged.data.params["store.path"] == "s3://${PLACE}/x"
    assert logged.data.params["sources.ü _.url"] == "x://u:***@h"
