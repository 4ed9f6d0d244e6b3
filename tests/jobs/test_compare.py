"""The comparison trains what it says, judges all on the same rows, and its report stands alone."""

import shutil
from dataclasses import replace

import mlflow
import pytest

from din_model.registry import tracking
from jobs import compare as job
from pipelines.store.store import Store
from pipelines.training.grid import CompareConfig
from tests.nights import NIGHTS
from tests.pages import stands_alone

GRID = CompareConfig(
    encoders=("mean", "din", "personas"), dimensions=(4, 8), seeds=(1,), users=20, items=30
)


@pytest.fixture(scope="module")
def compared(nights, tmp_path_factory):
    """A comparison in a store whose dates are built."""
    settings, store, _ = nights
    folder = tmp_path_factory.mktemp("compare")
    shutil.copytree(store.base, folder / "store")
    copy = Store(str(folder / "store"))
    settings = replace(
        settings,
        store=replace(settings.store, path=copy.base),
        compare=replace(GRID, report=str(folder)),
        train=replace(settings.train, epochs=1),
    )
    job.run(settings, NIGHTS[-1])
    return settings, copy, folder


def test_every_cell_is_a_run_nested_in_one_and_none_is_registered(compared):
    settings, store, _ = compared
    tracking.connect(settings.tracking, store.url)
    client = mlflow.MlflowClient()
    (experiment,) = [
        e for e in client.search_experiments() if e.name == settings.tracking.experiment
    ]
    runs = client.search_runs([experiment.experiment_id], "tags.job = 'compare'")
    (parent,) = [r for r in runs if r.info.run_name == f"compare {NIGHTS[-1]}"]
    cells = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(r.info.run_name for r in cells) == sorted(
        f"{e} {d} seed 1" for e in GRID.encoders for d in GRID.dimensions
    )
    rows = store.require("examples", NIGHTS[-1], "").rows
    for run in cells:
        numbers = run.data.metrics
        assert numbers["rows"] == rows
        assert 0.3 < numbers["auc"] < 1
        assert 0 < numbers["coverage"] <= 1
        assert 0 < numbers["popularity"] <= 1
        assert any(name.startswith("slice/interests") for name in numbers)
    assert not [v for v in client.search_model_versions() if v.run_id == parent.info.run_id]
    files = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert files == {"report.html", "report.md", "plots", "settings.json"}, "and nothing beside"


def test_the_report_is_one_self_contained_file(compared):
    _, _, folder = compared
    page = (folder / "report.html").read_text()
    drawn = [a for tag, a in stands_alone(page).tags if a.get("role") == "img"]
    assert len(drawn) == 4
    text = (folder / "report.md").read_text()
    assert text.count("\n| din |") == text.count("\n| mean |") == 2
    assert "relative improvement" in text
    assert "At dimension 8 din has AUC" in page
