"""Models on the executors."""

import atexit
import tempfile
from functools import partial

import pytest

from din_model.registry import artifact
from pipelines.shipping import archive_of, loaded, ship
from tests.din_model.conftest import some_model


@pytest.fixture
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    artifact.save(place, some_model(), artifact.ModelMetadata("2026-11-21", "x"))
    return place


def test_a_worker_loads_a_shipped_model_once(spark, folder):
    shipped = ship(spark, folder)
    assert loaded(shipped) is loaded(shipped)


def test_the_archive_of_a_model_is_removed_when_the_job_ends(folder, tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(atexit, "register", lambda f, *a, **k: at_exit.append(partial(f, *a, **k)))
    archive_of(folder)
    assert list(tmp_path.rglob("*.zip"))
    for end in at_exit:
        end()
    assert list(tmp_path.iterdir()) == []
