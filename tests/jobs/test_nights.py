"""Three generated nights from logs to scores, as a scheduler would run them: real jobs' code."""

import pickle
import pickletools
import re
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pyspark.sql import functions as F

from din_model.data.batch import from_columns
from din_model.errors import InputError
from din_model.features import FIRST_ID, FeatureSpec
from din_model.registry import artifact, versions
from jobs import nightly
from pipelines.examples import counters
from pipelines.examples.build import build_day
from pipelines.examples.origin import is_built
from pipelines.examples.point_in_time_join import attach_history, unpacked
from pipelines.examples.state import as_behaviours
from pipelines.examples.vocabulary import encode, open_vocabulary
from pipelines.ingest.sources import start_of
from pipelines.store.data_sets import COUNTERS
from pipelines.store.store import Store
from pipelines.training.training_set import open_training_set
from tests.nights import NIGHTS, rows


def test_the_champion_moves_only_through_the_gate(nights):
    settings, store, champions = nights
    held = None
    for night, champion in zip(NIGHTS, champions, strict=True):
        decision = store.manifest("nights", night).facts
        assert decision["version"] == champion
        point, low, high = decision["gain"]
        assert low < point < high
        assert (low > settings.nightly.min_gain) == (champion != held)
        if champion != held:
            assert decision["why"].startswith("promoted")
            _, facts = versions.load(settings.tracking.model, champion)
            assert facts.trained_through == str(night - timedelta(days=1)), "none saw its judge"
        held = champion


def test_a_version_has_a_card_and_its_run_lists_its_input_dates(nights):
    settings, store, champions = nights
    client, name = versions.mlflow.MlflowClient(), settings.tracking.model
    version = client.get_model_version(name, str(champions[-1]))
    through = version.tags["trained_through"]
    assert version.description.startswith(f"# {name}, version {version.version}\n")
    assert f"trained through {through}" in version.description
    inputs = client.get_run(version.run_id).inputs.dataset_inputs
    uses = {(i.tags[0].value, i.dataset.name, i.dataset.digest) for i in inputs}
    judge = store.manifest("examples", date.fromisoformat(version.tags["judged_on"]))
    last = store.manifest("examples", date.fromisoformat(through))
    assert ("judging", f"examples of {judge.date}", judge.run) in uses
    assert ("training", f"examples of {last.date}", last.run) in uses
    assert sum(use == "judging" for use, *_ in uses) == 1


def test_each_state_continues_the_last_and_ids_do_not_change(nights):
    _, store, _ = nights
    for before, after in pairwise(NIGHTS):
        parent = store.manifest("state", before)
        assert store.manifest("state", after).facts["pins"]["state"] == [parent.id]
        ids = parent.facts["next_id"]
        assert all(store.manifest("state", after).facts["next_id"][v] >= n for v, n in ids.items())


def report(store: Store, night: date) -> str:
    return Path(store.base, "reports", f"{night}.html").read_text()


def without_time(page: str) -> str:
    return re.sub(r"<dt>took</dt>.*", "", page.partition('<h2 id="time">')[0])


def test_running_a_night_again_changes_nothing(nights):
    settings, store, _ = nights
    night, scored = NIGHTS[1], NIGHTS[1] + timedelta(days=1)
    champion = versions.champion(settings.tracking.model)
    days = dict.fromkeys(("examples", "state", "vocabulary", "counts", "nights"), night)
    days["scores"] = scored
    before = {name: store.manifest(name, day) for name, day in days.items()}
    told = report(store, night)
    nightly.run(settings, night)
    assert without_time(report(store, night)) == without_time(told)
    assert {name: store.manifest(name, day) for name, day in days.items()} == before
    assert versions.champion(settings.tracking.model) == champion


@pytest.mark.slow
def test_a_cold_rebuild_equals_the_chain(spark, nights, tmp_path):
    settings, store, _ = nights
    logs, _ = settings.open("tests", NIGHTS[-1])
    cold = Store(str(tmp_path))
    build_day(logs, cold, settings.build, settings.split, NIGHTS[-1])
    for name in ("examples", "state", "counts"):
        chained, rebuilt = store.manifest(name, NIGHTS[-1]), cold.manifest(name, NIGHTS[-1])
        assert rows(store.read(spark, [chained])) == rows(cold.read(spark, [rebuilt]))
    assert rows(open_vocabulary(spark, store)[0]) == rows(open_vocabulary(spark, cold)[0])


def test_scores_equal_the_model_called_directly(spark, nights):
    settings, store, champions = nights
    logs, _ = settings.open("tests", NIGHTS[-1])
    day = NIGHTS[-1] + timedelta(days=1)
    folder = versions.download(settings.tracking.model, champions[-1])
    model, _ = artifact.load(folder)
    spec = model.spec
    scores = store.read(spark, [store.manifest("scores", day)])
    vocabulary, _ = open_vocabulary(spark, store)
    candidates = logs.candidates(day).where("reason is null").drop("reason", "raw")
    keys = {"user_key": F.col(spec.user), "item_key": F.col(spec.item).cast("bigint")}
    targets = encode(candidates.withColumns(keys), spec.features, vocabulary)
    state = as_behaviours(store.read(spark, [store.manifest("state", NIGHTS[-1])]), spec)
    start = start_of(day, spec.time_zone)
    sums = store.read(spark, [store.manifest(COUNTERS, NIGHTS[-1])])
    targets = counters.attach(targets, sums, spec, start).withColumn("cutoff", F.lit(start))
    joined = unpacked(attach_history(targets, state, spec), spec).join(
        scores.select(
            F.col(spec.user).alias("user_key"), F.col(spec.item).alias("item_key"), "score"
        ),
        ["user_key", "item_key"],
    )
    table = joined.toPandas()
    assert len(table) == store.manifest("scores", day).rows > 0
    columns = {
        name: np.stack(values) if values.dtype == object else values.to_numpy()
        for name, values in table.items()
        if name not in ("user_key", "item_key")
    }
    with torch.inference_mode():
        direct = torch.sigmoid(model(from_columns(columns, spec)).double()).numpy()
    assert np.abs(direct - columns["score"]).max() < 1e-6


def test_the_training_set_has_the_category_of_every_item_in_its_examples(spark, nights):
    settings, store, _ = nights
    training_set = open_training_set(store, NIGHTS[:1], settings.split, NIGHTS[-1])
    found = training_set.values_of_items(store, "category")
    examples = store.read(spark, [store.require("examples", NIGHTS[0], "")])
    past = F.explode(F.arrays_zip("clicks__item_id", "clicks__category"))
    pairs = examples.select(past.alias("_")).select("_.clicks__item_id", "_.clicks__category")
    pairs = examples.select("item_id", "category").union(pairs).distinct().collect()
    told = {item: category for item, category in pairs if item >= FIRST_ID}
    assert {item: found[item] for item in told} == told
    assert len(told) > 50
    assert set(np.flatnonzero(found)) == set(told), "what was never met has none"
    for wrong in ("user_id", "nothing"):
        with pytest.raises(
            InputError,
            match=f"new_item_init_from: '{wrong}' is not a single-valued item feature with keys",
        ):
            training_set.values_of_items(store, wrong)


def test_candidates_and_impressions_add_up(nights):
    _, store, _ = nights
    for night in NIGHTS:
        examples = store.manifest("examples", night)
        shown = sum(examples.facts["funnel"]["impressions"].values())
        assert examples.rows == examples.facts["funnel"]["impressions"]["good"] < shown
        scores = store.manifest("scores", night + timedelta(days=1))
        assert scores.rows + scores.facts["refused"] == scores.facts["candidates"]
        assert is_built(store, night)
        assert examples.facts["inputs"]["files"] > 1
        assert scores.facts["inputs"]["files"] > 0
        assert FeatureSpec.from_json(examples.facts["spec"]).hash == examples.facts["spec_hash"]


def is_pickle(data: bytes) -> bool:
    """Whether the bytes are a pickle of any protocol, or an archive that torch.save makes."""
    if data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"):
        return True
    try:
        return all(True for _ in pickletools.genops(data))
    except Exception:
        return False


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pickletools")
def test_no_published_file_is_a_pickle_by_its_content(nights):
    _, store, _ = nights
    thing = {"weights": [1.0, 2.0]}
    assert all(is_pickle(pickle.dumps(thing, protocol)) for protocol in range(6))
    files = [p for p in Path(store.base).rglob("*") if p.is_file()]
    assert any(p.name == "weights.safetensors" for p in files)
    assert [p for p in files if is_pickle(p.read_bytes())] == []


def test_rollback_restores_the_previous_champion(nights):
    settings, _, champions = nights
    name, now = settings.tracking.model, versions.champion(settings.tracking.model)
    if len(set(champions)) == 1:
        with pytest.raises(InputError, match="no previous champion"):
            versions.rollback(name)
    else:
        before, after = versions.rollback(name)
        assert before == now
        assert versions.champion(name) == after != now
        versions.promote(name, now)


def test_a_missing_model_version_is_reported_in_one_line(nights):
    settings, _, _ = nights
    with pytest.raises(InputError, match="no model 'din-demo' with version 99"):
        versions.resolve(settings.tracking.model, "99")


def test_a_missing_day_names_the_date_and_the_path(nights):
    settings, store, _ = nights
    logs, _ = settings.open("tests", NIGHTS[-1])
    logs = replace(logs, since=date(2026, 11, 19))
    with pytest.raises(InputError, match=r"no data for 2026-12-24.*date=2026-12-24 does not exist"):
        build_day(logs, store, settings.build, settings.split, date(2026, 12, 24))
