"""Versions, the champion's alias and its way back, on a real MLflow store."""

import pytest

from din_model.errors import InputError
from din_model.registry import tracking, versions
from tests.din_model.conftest import some_model


def test_the_champion_moves_and_rolls_back_step_by_step(name):
    assert versions.champion(name) is None
    assert versions.champion("nobody") is None
    for version in (1, 2, 3):
        versions.promote(name, version)
        versions.promote(name, version)  # twice is once
        assert versions.champion(name) == version
    assert versions.rollback(name) == (3, 2)
    assert versions.rollback(name) == (2, 1)
    with pytest.raises(InputError, match=f"'{name}' version 1 has no previous champion"):
        versions.rollback(name)
    assert versions.champion(name) == 1


def test_a_version_is_found_by_its_fingerprint(name):
    assert [versions.find(name, f) for f in ("a", "b", "c", "d")] == [1, 2, 3, None]
    model, facts = versions.load(name, 2)
    assert facts.trained_through == "2026-11-21"
    assert model.spec == some_model().spec


def test_a_wanted_model_is_resolved_to_one_version_or_refused(name):
    versions.promote(name, 2)
    wanted = (None, "2", "@champion", f"models:/{name}/2", f"models:/{name}@champion")
    assert {versions.resolve(name, w) for w in wanted} == {2}
    for missing in ("9", "@nobody", f"models:/{name}/9"):
        with pytest.raises(
            InputError, match=rf"no model '{name}' with (version 9|alias nobody) at"
        ):
            versions.resolve(name, missing)


def test_a_version_is_described_by_its_card_cut_to_the_servers_limit(name):
    card = "# m\n" + "| a feature | of the item | string | 8 |\n" * 300
    with tracking.run("card", {}, {}):
        run = tracking.active()
        versions.describe(name, 3, card)
    described = versions.mlflow.MlflowClient().get_model_version(name, "3").description
    assert len(described) <= 5000
    assert described.endswith("8 |\n\n… see model_card.md of the run")
    assert versions.mlflow.artifacts.load_text(f"runs:/{run}/model_card.md") == card


def test_a_password_in_the_address_is_masked(name, monkeypatch):
    monkeypatch.setattr(versions, "address", lambda: "https://somebody:sec/ret@host/mlflow")
    with pytest.raises(InputError, match=r"at https://somebody:\*\*\*@host/mlflow: train"):
        versions.resolve(name, "9")


def test_an_unreachable_server_is_an_error_not_a_missing_champion(name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    versions.mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(tracking.TrackingError):
        versions.champion(name)


def test_a_version_without_files_is_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(versions.mlflow.artifacts, "download_artifacts", lambda _: str(tmp_path))
    with pytest.raises(InputError, match="m version 3: its files are missing in MLflow"):
        versions.download("m", 3)
