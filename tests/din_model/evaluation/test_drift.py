"""Histograms of scores add up, and the stability index says how far two are apart."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from din_model.errors import InputError
from din_model.evaluation import drift
from din_model.registry.artifact import ModelMetadata, load, save
from tests.din_model.conftest import some_model

SCORES = st.lists(st.floats(0, 1), max_size=40).map(np.array)


def some_scores(rows: int, mean: float, seed: int = 0) -> np.ndarray:
    return 1 / (1 + np.exp(-np.random.default_rng(seed).normal(mean, 1.0, rows)))


@given(SCORES, SCORES)
def test_histograms_of_parts_add_up_to_that_of_the_whole(one, other):
    parts = drift.histogram(one) + drift.histogram(other)
    assert parts.tolist() == drift.histogram(np.concatenate([one, other])).tolist()
    assert parts.sum() == len(one) + len(other)
    assert len(parts) == drift.BINS


def test_scores_are_binned_by_log_odds_with_open_ends():
    found = drift.histogram(np.array([0.0, 1e-30, 0.5, 0.51, 1.0], np.float64))
    middle = drift.EDGES.searchsorted(0.0)
    assert found[[0, -1, middle]].tolist() == [2, 1, 2]
    assert found.sum() == 5
    edges = 1 / (1 + np.exp(-(drift.EDGES[:-1] + 0.05)))
    assert drift.histogram(edges).tolist() == [1] * drift.BINS


def test_a_shifted_histogram_is_that_of_the_published_scores():
    logits = torch.linspace(-12, 6, 1001) + 0.003  # none within rounding of an edge
    facts = ModelMetadata("2026-11-21", "f", logit_shift=-2.5)
    judged, published = torch.sigmoid(logits.double()), facts.probability(logits)
    found = drift.histogram(judged.numpy(), facts.logit_shift)
    assert found.tolist() == drift.histogram(published.numpy()).tolist()


def test_a_score_outside_0_and_1_is_refused():
    with pytest.raises(InputError, match="2 of 3 scores are not probabilities"):
        drift.histogram(np.array([0.5, np.nan, 1.5]))


def test_the_index_is_that_of_the_definition_on_deciles():
    now, before = some_scores(50_000, -2.7), some_scores(80_000, -3.0, seed=1)
    cuts = np.quantile(before, np.arange(1, 10) / 10)
    share, was = (
        np.bincount(np.searchsorted(cuts, s), minlength=10) / len(s) for s in (now, before)
    )
    expected = ((share - was) * np.log(share / was)).sum()
    found = drift.psi(drift.histogram(now), drift.histogram(before))
    assert found == pytest.approx(expected, rel=0.1)
    assert 0.05 < found < 0.15


def test_two_samples_of_one_distribution_have_a_small_index():
    one, other = some_scores(20_000, -3), some_scores(20_000, -3, seed=1)
    assert drift.psi(drift.histogram(one), drift.histogram(one)) == 0
    assert 0 < drift.psi(drift.histogram(one), drift.histogram(other)) < 10 * 2 * 9 / 20_000


@given(SCORES, SCORES, st.integers(1, 12))
def test_the_index_is_a_number_unless_one_side_is_empty(now, before, buckets):
    found = drift.psi(drift.histogram(now), drift.histogram(before), buckets)
    assert np.isnan(found) if not (len(now) and len(before)) else 0 <= found < np.inf


def test_scores_that_share_no_bucket_are_far_apart():
    low, high = drift.histogram(np.full(100, 0.01)), drift.histogram(np.full(100, 0.9))
    assert drift.psi(high, low) == drift.psi(low, high) == pytest.approx(2 * 0.995 * np.log(200))


def test_a_histogram_travels_with_its_model_and_an_older_model_has_none(tmp_path):
    counts = drift.histogram(some_scores(30, -3)).tolist()
    save(tmp_path, some_model(), ModelMetadata("2026-11-21", "f", scores=counts))
    assert load(tmp_path)[1].scores == counts
    about = json.loads((tmp_path / "model.json").read_text())
    del about["facts"]["scores"]
    (tmp_path / "model.json").write_text(json.dumps(about))
    assert load(tmp_path)[1].scores == []
