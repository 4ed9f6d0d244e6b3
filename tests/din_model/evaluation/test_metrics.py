"""Streamed metrics equal scikit-learn's, whatever the batches; intervals of gains equal scipy's."""

import itertools

import numpy as np
import pytest
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from din_model.distributed import collectives
from din_model.evaluation import metrics
from din_model.evaluation.bootstrap import gain
from din_model.evaluation.metrics import Meter, Sums
from tests.din_model.conftest import free_port, join

METRICS = ("gauc", "log_loss")
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
def test_metrics_equal_scikit_learn_with_ties(rows, cuts):
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
        found, buckets = meter.result(), meter.tally().calibration(10)
    assert abs(found["auc"] - roc_auc_score(label, score)) < 1e-6
    rate, mean = calibration_curve(label, score, n_bins=10, strategy="quantile")
    assert [b.rows for b in buckets] == pytest.approx([20_000] * 10, rel=1e-2)
    assert [b.score for b in buckets] == pytest.approx(mean.tolist(), rel=1e-2)
    assert [b.rate for b in buckets] == pytest.approx(rate.tolist(), rel=2e-2)


def test_rows_of_one_label_have_no_auc():
    with Meter() as meter:
        assert np.isnan(meter.result()["auc"])
        assert meter.result()["rows"] == 0
        meter.add(np.ones(3), np.full(3, 0.5), np.arange(3))
        found = meter.result()
    assert np.isnan(found["auc"])
    assert np.isnan(found["gauc"])
    assert found["clicks"] == 3


def test_relative_improvement_is_the_gain_over_chance():
    assert metrics.relative_improvement(0.75, 0.7) == pytest.approx(0.25)
    assert np.isnan(metrics.relative_improvement(0.75, 0.5)), "the base ranks like chance"


def some_users(seed, users=40, rows=12, edge=0.0):
    """Rows [users * rows] in seeded order: label, scores of two models, user; one knows more."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(users), rows))
    taste = rng.normal(size=users)[user] + rng.normal(size=len(user))
    label = rng.random(len(user)) < 1 / (1 + np.exp(1 - taste))
    seen = rng.normal(size=(2, len(user))) + np.outer([0.5 + edge, 0.5], taste)
    return label, *(0.1 + 0.8 / (1 + np.exp(-seen))), user


def sums(label, score, user, metric="gauc") -> Sums:
    with Meter(bins=1 << 10) as meter:
        meter.add(label, score, user)
        return meter.tally().by_user[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_that_of_scipy_on_users(metric):
    label, one, other, user = some_users(0)
    pair = [sums(label, score, user, metric) for score in (one, other)]
    found = gain(*pair, confidence=0.9, resamples=20_000)
    some = pair[0].weight > 0
    expected = bootstrap(
        [(pair[0].total - pair[1].total)[some], pair[0].weight[some]],
        lambda more, weight, axis: more.sum(axis) / weight.sum(axis),
        paired=True, confidence_level=0.9, n_resamples=20_000, method="percentile", random_state=1,
    )  # fmt: skip
    deviation = expected.standard_error
    assert found.point == pytest.approx(pair[0].mean() - pair[1].mean())
    assert abs(found.low - expected.confidence_interval.low) < 0.05 * deviation
    assert abs(found.high - expected.confidence_interval.high) < 0.05 * deviation


def test_the_interval_is_that_of_all_resamples_of_few_users():
    more, weight = np.array([2.0, -1.0, 0.5, 0.0]), np.array([4.0, 9.0, 2.0, 0.0])
    one, other = Sums(more + weight, weight), Sums(weight.copy(), weight)
    drawn = np.array(list(itertools.product(range(3), repeat=3)))
    every = more[drawn].sum(1) / weight[drawn].sum(1)
    found = gain(one, other, confidence=0.8, resamples=50_000)
    low, high = np.quantile(every, [0.1, 0.9], method="inverted_cdf")
    assert found[:3] == pytest.approx((0.1, low, high))


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_holds_the_true_gain_as_often_as_it_says(metric):
    label, one, other, user = some_users(1, users=20_000, edge=0.2)
    pair = [sums(label, score, user, metric) for score in (one, other)]
    true = pair[0].mean() - pair[1].mean()
    assert abs(true) > 0.005
    held, nights = 0, np.arange(20_000).reshape(200, 100)
    for night, users in enumerate(nights):
        few = [Sums(each.total[users], each.weight[users]) for each in pair]
        found = gain(*few, confidence=0.9, resamples=400, seed=night)
        held += found.low <= true <= found.high
    assert 0.84 <= held / len(nights) <= 0.95


def test_a_model_gains_nothing_over_itself():
    label, one, _, user = some_users(2)
    for metric in METRICS:
        assert gain(*[sums(label, one, user, metric)] * 2)[:3] == (0, 0, 0)


def test_difficulty_shared_by_both_models_cancels_out():
    label, one, _, user = some_users(3, users=300)
    slightly = one + 0.02 * label
    found = gain(sums(label, slightly, user), sums(label, one, user))
    alone = gain(sums(label, slightly, user), sums(label, np.full(len(one), 0.5), user))
    assert found.low > 0
    assert found.high - found.low < (alone.high - alone.low) / 5


def test_one_user_with_most_of_the_rows_makes_the_interval_wide():
    label, one, other, user = some_users(4, users=200)
    alike = gain(sums(label, one, user), sums(label, other, user))
    many = np.arange(5000)
    label, user = np.r_[label, many % 2 == 0], np.r_[user, np.full(len(many), 777)]
    one, other = np.r_[one, np.where(many % 2, 0.4, 0.6)], np.r_[other, np.full(len(many), 0.5)]
    found = gain(sums(label, one, user), sums(label, other, user))
    assert found.point > 0.3, "without that user nothing is gained"
    assert found.low < alike.high, "without that user nothing is gained"


def test_users_of_one_label_count_in_log_loss_alone():
    label, one, other, user = some_users(5, users=20)
    more = np.r_[user, np.repeat([50, 51], 4)]
    label_, one_, other_ = (np.r_[x, np.ones(4), np.zeros(4)] for x in (label, one, other))
    gauc = [gain(sums(label, one, user), sums(label, other, user), seed=1)]
    gauc += [gain(sums(label_, one_, more), sums(label_, other_, more), seed=1)]
    assert gauc[0] == gauc[1]
    assert np.isfinite(gauc[0]).all()
    pair = [sums(label_, score, more, "log_loss") for score in (one_, other_)]
    assert pair[0].weight.sum() == len(more)
    assert np.isfinite(gain(*pair)).all()
    nobody = [sums(np.ones(4), np.full(4, 0.5), np.arange(4))] * 2
    assert np.isnan(gain(*nobody)[:3]).all()


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(60)), st.lists(st.integers(1, 59), max_size=4).map(sorted))
def test_metrics_by_user_do_not_depend_on_row_order_or_batches(order, cuts):
    label, score, _, user = some_users(6, users=5)
    with Meter(bins=1 << 10) as meter:
        for part in np.split(np.array(order), cuts):
            meter.add(label[part], score[part], user[part])
        for metric in METRICS:
            assert np.array_equal(meter.tally().by_user[metric], sums(label, score, user, metric))


def test_each_user_has_a_cell_with_their_own_metric_and_rows():
    label, score, _, user = some_users(9, users=30)
    gauc, loss = (sums(label, score, user, metric) for metric in METRICS)
    for each in range(30):
        mine = user == each
        area = roc_auc_score(label[mine], score[mine]) if len(set(label[mine])) == 2 else 0
        assert gauc.total[each] == pytest.approx(area * gauc.weight[each])
        assert loss.weight[each] == mine.sum()
        assert gauc.weight[each] == (area > 0) * mine.sum()
        total = sklearn_log_loss(label[mine], score[mine], labels=[0, 1], normalize=False)
        assert loss.total[each] == pytest.approx(total, rel=1e-6)


def test_users_beyond_the_cells_are_drawn_in_groups_of_the_same_spread(monkeypatch):
    label, one, other, user = some_users(7, users=3000, rows=6, edge=0.3)
    alone = gain(sums(label, one, user), sums(label, other, user))
    monkeypatch.setattr(metrics, "CELLS", 500)
    pair = [sums(label, score, user) for score in (one, other)]
    assert len(pair[0].total) == 500
    together = gain(*pair)
    assert together.point == pytest.approx(alone.point)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.15)


def meter_rank(rank, port, folder):
    join(rank, port, together=False)
    label, score, _, user = (column[rank::2] for column in some_users(8))
    np.save(f"{folder}/{rank}.npy", [sums(label, score, user, metric) for metric in METRICS])
    collectives.disconnect()


def test_two_ranks_compute_the_metrics_of_one(tmp_path):
    label, score, _, user = some_users(8)
    alone = np.array([sums(label, score, user, metric) for metric in METRICS])
    mp.spawn(meter_rank, (free_port(), str(tmp_path)), nprocs=2)
    for rank in range(2):
        assert np.array_equal(np.load(tmp_path / f"{rank}.npy"), alone)
