"""Streamed metrics equal scikit-learn's, whatever the batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from din_model import metrics
from din_model.metrics import Meter

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 200)), min_size=2, max_size=60
)


def metered(label, score, user, cuts=()) -> dict[str, float]:
    with Meter(bins=1 << 12) as meter:
        for part in np.split(np.arange(len(label)), cuts):
            meter.add(label[part], score[part], user[part])
        return meter.result()


@settings(deadline=None, max_examples=60)
@given(ROWS, st.lists(st.integers(1, 50), max_size=3))
def test_metrics_equal_scikit_learn_ties_and_all(rows, cuts):
    label, score, user = (np.array(column) for column in zip(*rows, strict=True))
    score = score / 7 + 0.1
    found = metered(label, score, user, sorted(cuts))
    both = 0 < label.sum() < len(label)
    if both:
        assert np.isclose(found["auc"], roc_auc_score(label, score))
        assert np.isclose(metrics.auc(label, score), roc_auc_score(label, score))
    loss = sklearn_log_loss(label, score, labels=[0, 1])
    assert np.isclose(found["log_loss"], loss)
    if both:
        always = sklearn_log_loss(label, np.full(len(label), label.mean()), labels=[0, 1])
        assert np.isclose(found["normalised_entropy"], loss / always)
        assert np.isclose(found["calibration"], score.mean() / label.mean())
    each = [
        (roc_auc_score(label[user == u], score[user == u]), (user == u).sum())
        for u in set(user.tolist())
        if 0 < label[user == u].sum() < (user == u).sum()
    ]
    if each:
        mean = np.average([a for a, _ in each], weights=[n for _, n in each])
        assert np.isclose(found["gauc"], mean)
    else:
        assert np.isnan(found["gauc"])


def test_a_million_close_scores_lose_less_than_a_millionth_of_auc():
    rng = np.random.default_rng(0)
    score = rng.beta(1, 50, 200_000)
    label = rng.random(len(score)) < score
    with Meter(by_user=False) as meter:
        for part in np.array_split(np.arange(len(score)), 7):
            meter.add(label[part], score[part])
        found, buckets = meter.result(), meter.calibration(10)
    assert abs(found["auc"] - roc_auc_score(label, score)) < 1e-6
    rate, mean = calibration_curve(label, score, n_bins=10, strategy="quantile")
    assert [b.rows for b in buckets] == pytest.approx([20_000] * 10, rel=1e-2)
    assert [b.score for b in buckets] == pytest.approx(mean.tolist(), rel=1e-2)
    assert [b.rate for b in buckets] == pytest.approx(rate.tolist(), rel=2e-2)


def test_rows_of_one_label_have_no_auc():
    with Meter() as meter:
        assert np.isnan(meter.result()["auc"]) and meter.result()["rows"] == 0
        meter.add(np.ones(3), np.full(3, 0.5), np.arange(3))
        found = meter.result()
    assert np.isnan(found["auc"]) and np.isnan(found["gauc"]) and found["clicks"] == 3


def test_relative_improvement_is_the_gain_over_chance():
    assert metrics.relative_improvement(0.75, 0.7) == pytest.approx(0.25)
