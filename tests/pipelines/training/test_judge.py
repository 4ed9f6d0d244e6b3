"""Versions evaluated on the executors, against the same scores in one process."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from din_model.evaluation import drift
from din_model.evaluation.evaluate import predict_batches
from din_model.evaluation.metrics import Meter
from din_model.evaluation.slices import Slices, slices_from, slices_of
from din_model.registry import versions
from pipelines.training.evaluate import EvalResult, popularity_of, simple_scores
from pipelines.training.judge import evaluate_versions
from pipelines.training.training_set import TrainingSet, open_training_set, training_days
from tests.nights import NIGHTS


@pytest.fixture(scope="module")
def training_set(nights) -> TrainingSet:
    settings, store, _ = nights
    days = training_days(settings.train, settings.split, NIGHTS[-1], settings.history.since)
    return open_training_set(store, days, settings.split, NIGHTS[-1])


@pytest.fixture
def one_thread():
    """As a task has: the last bits of a product depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_one_process(model, store, training_set: TrainingSet) -> EvalResult:
    """Meter all rows here, file by file as the tasks do."""
    spec, thirds = training_set.spec, popularity_of(store, training_set)
    simple, slices = simple_scores(store, training_set), Slices()
    published = np.zeros(drift.BINS, np.int64)
    with ExitStack() as stack:
        meters = {n: stack.enter_context(Meter()) for n in ("champion", *simple)}
        for loader in training_set.evaluation_loaders(store):
            for columns, own in predict_batches(model, loader):
                scores = {"champion": own} | {n: s(columns, own) for n, s in simple.items()}
                for name, meter in meters.items():
                    meter.add(columns["label"], scores[name], columns[spec.user])
                masks = slices_of(columns, spec, thirds)
                slices.add(columns["label"], {"champion": own}, masks)
                published += drift.histogram(own, training_set.logit_shift)
        tallies = {name: meter.tally() for name, meter in meters.items()}
    return EvalResult(tallies, published, slices_from(slices.tallies()))


def test_metrics_sums_slices_and_histogram_equal_those_of_one_process(
    spark, nights, training_set, one_thread
):
    settings, store, champions = nights
    name, version = settings.tracking.model, champions[-1]
    spread = evaluate_versions(spark, store, training_set, name, {"champion": version})
    alone = in_one_process(versions.load(name, version)[0], store, training_set)
    assert spread.tallies.keys() == alone.tallies.keys() >= {"champion", "popularity", "base rate"}
    for name, tally in spread.tallies.items():
        expected = alone.tallies[name]
        np.testing.assert_allclose(tally.histogram, expected.histogram, atol=1e-9)
        for metric, sums in tally.by_user.items():
            np.testing.assert_allclose(sums, expected.by_user[metric], atol=1e-9)
        assert tally.metrics() == pytest.approx(expected.metrics(), abs=1e-9)
    assert [part[:3] for part in spread.slices] == [part[:3] for part in alone.slices]
    for part, expected in zip(spread.slices, alone.slices, strict=True):
        assert part.auc == pytest.approx(expected.auc, abs=1e-9)
    assert spread.scores.tolist() == alone.scores.tolist()
    assert spread.scores.sum() == spread.metrics["champion"]["rows"] > 1000


def test_versions_are_judged_on_the_same_rows_each_by_its_own_model(spark, nights, training_set):
    settings, store, champions = nights
    names = {"challenger": champions[0], "champion": champions[-1], "again": champions[0]}
    result = evaluate_versions(spark, store, training_set, settings.tracking.model, names)
    weights = [t.by_user["gauc"].weight.tolist() for t in result.tallies.values()]
    assert all(each == weights[0] for each in weights)
    metrics = result.metrics
    assert metrics["again"] == pytest.approx(metrics["challenger"], abs=1e-12)
    assert champions[0] != champions[-1]
    assert metrics["champion"]["log_loss"] != pytest.approx(metrics["again"]["log_loss"], abs=1e-6)
