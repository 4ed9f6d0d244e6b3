"""Every job's run(), in this process, on a store that three nights have filled."""

import shutil
import sys
from dataclasses import replace
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest
import torch

from din_model.errors import InputError
from din_model.features import UNKNOWN
from din_model.registry import versions
from din_model.registry.export import ExportConfig
from jobs import build_sequences, erase, export, generate_logs, rollback, score, train, vacuum
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.store.store import Store, StoreConfig
from tests.nights import NIGHTS

LAST, SCORED = NIGHTS[-1], NIGHTS[-1] + timedelta(days=1)


def test_score_does_not_replace_a_table_of_the_same_inputs(nights, capsys):
    settings, store, champions = nights
    before = store.manifest("scores", SCORED)
    settings = replace(settings, score=replace(settings.score, model=str(champions[-1])))
    score.run(settings, SCORED)
    assert store.manifest("scores", SCORED) == before
    assert f"published {before.id}" in capsys.readouterr().out


def test_score_replays_a_day(nights, capsys):
    settings, store, _ = nights
    score.run(replace(settings, score=replace(settings.score, replay=True)), LAST)
    rows = store.require("examples", LAST, "").rows
    assert f"replayed {rows:,} impressions of {LAST}" in capsys.readouterr().out


def test_train_finds_the_version_of_the_same_data_and_settings(nights, capsys):
    settings, _, _ = nights
    train.run(settings, NIGHTS[0])
    assert "din-demo version 1;" in capsys.readouterr().out


def test_rollback_moves_the_alias_back_or_says_why_not(nights, capsys):
    settings, _, champions = nights
    name, now = settings.tracking.model, versions.champion(settings.tracking.model)
    if len(set(champions)) == 1:
        with pytest.raises(InputError, match="has no previous champion"):
            rollback.run(settings, None)
        return
    rollback.run(settings, None)
    assert versions.champion(name) != now
    assert f"champion was version {now}, is version" in capsys.readouterr().out
    versions.promote(name, now)


def test_a_vacuum_keeps_what_was_replaced_within_store_keep(nights, capsys):
    settings, store, _ = nights
    vacuum.run(settings, None)
    assert f"{store.url}: 0 files removed" in capsys.readouterr().out


def test_a_vacuum_keeps_the_examples_that_registered_versions_were_trained_on(
    spark, nights, tmp_path
):
    settings, original, _ = nights
    ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    store = Store(str(shutil.copytree(original.base, tmp_path / "store", ignore=ignored)))
    trained = [store.require("examples", day, "") for day in NIGHTS]
    scores = store.require("scores", NIGHTS[-1], "")
    for before in (*trained, scores):
        rows = store.read(spark, [before])
        store.publish(before.name, date.fromisoformat(before.date), rows, before.facts)
    tracked = replace(settings.tracking, uri=f"sqlite:///{original.base}/mlflow.db")
    kept = StoreConfig(store.base, keep="0s")
    vacuum.run(replace(settings, store=kept, tracking=tracked), None)
    for before in trained:
        assert store.read(spark, [before]).count() == before.rows
    with pytest.raises(InputError, match="has no bytes"):
        store.read(spark, [scores])


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (erase, "erase.users: name at least one user"),
        (export, "export.path is missing"),
        (generate_logs, "generate: the section is missing"),
    ],
)
def test_a_job_without_its_section_names_it(nights, job, message):
    settings, _, _ = nights
    with pytest.raises(InputError, match=message):
        job.run(replace(settings, generate=None), None)


def test_export_names_a_version_that_does_not_exist(nights, tmp_path):
    settings, _, _ = nights
    missing = ExportConfig(str(tmp_path / "export"), model="99")
    with pytest.raises(InputError, match="no model 'din-demo' with version 99"):
        export.run(replace(settings, export=missing), None)


def test_export_writes_the_vectors_of_the_stores_items(spark, nights, tmp_path, monkeypatch):
    settings, store, _ = nights
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # the conversion takes its time
    config = ExportConfig(str(tmp_path / "export"), vectors=True)
    for _ in range(2):  # an earlier export with vectors is replaced
        export.run(replace(settings, export=config), None)
    name = settings.tracking.model
    model, _ = versions.load(name, versions.champion(name))
    known = {
        row["key"]: model.tables([("item_id", torch.tensor([row["id"]]))])[0][0]
        for row in open_vocabulary(spark, store)[0].where("vocabulary = 'item_id'").collect()
        if model.tables.rows("item_id", torch.tensor([row["id"]])) != UNKNOWN
    }
    found = pq.read_table(tmp_path / "export" / "vectors" / "item.parquet").to_pylist()
    assert known
    assert {row["key"]: row["vector"] for row in found} == {k: v.tolist() for k, v in known.items()}


def test_vectors_are_not_named_by_the_keys_of_another_store(nights, tmp_path):
    settings, _, _ = nights
    config = ExportConfig(str(tmp_path / "export"), vectors=True)
    tracked = replace(settings.tracking, uri=f"sqlite:///{settings.store.path}/mlflow.db")
    other = replace(settings, export=config, tracking=tracked, store=StoreConfig(str(tmp_path)))
    with pytest.raises(InputError, match="was not built with the spec of the model"):
        export.run(other, None)
    assert not (tmp_path / "export").exists()


def test_an_empty_range_of_dates_is_refused(nights):
    settings, _, _ = nights
    settings = replace(settings, build=replace(settings.build, first=SCORED))
    with pytest.raises(InputError, match=f"build.first: {SCORED} is after --date {LAST}"):
        build_sequences.run(settings, LAST)
