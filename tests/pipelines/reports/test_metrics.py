"""Rows are sorted by one metric, and a baseline that beats the model is named."""

import pytest

from pipelines.reports.metrics import metric_rows, winning_baseline

RESULTS = {
    "din": {"auc": 0.7, "gauc": 0.61, "log_loss": 0.30, "calibration": 1.0},
    "lightgbm": {"auc": 0.6, "gauc": 0.62, "log_loss": 0.31, "calibration": 1.1},
    "popularity": {"auc": 0.8, "gauc": 0.60, "log_loss": 0.29, "calibration": 0.9},
    "base rate": {"auc": 0.5, "gauc": float("nan"), "log_loss": 0.40, "calibration": 1.0},
}

BY_LOG_LOSS = "The baseline popularity wins: log loss 0.2900, din 0.3000."


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("gauc", ["lightgbm", "din", "popularity", "base rate"]),
        ("log_loss", ["popularity", "din", "lightgbm", "base rate"]),
    ],
)
def test_the_best_comes_first_and_what_has_no_value_last(by, order):
    assert [name for name, _ in metric_rows(RESULTS, by)] == order


def test_a_value_that_is_missing_is_a_dash():
    rows = dict(metric_rows(RESULTS, "gauc"))
    assert rows["base rate"] == ["0.5000", "-", "0.4000", "1.0000"]


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("gauc", f"The baseline lightgbm wins: GAUC 0.6200, din 0.6100. {BY_LOG_LOSS}"),
        ("log_loss", BY_LOG_LOSS),
    ],
)
def test_the_best_baselines_ahead_of_the_model_are_named(by, sentence):
    assert winning_baseline(RESULTS, "din", by) == sentence


def test_probabilities_that_are_worse_than_the_base_rate_are_named():
    results = {name: RESULTS[name] | {"gauc": 0.5} for name in ("base rate", "lightgbm")}
    results["din"] = RESULTS["din"] | {"log_loss": 0.6171}
    assert winning_baseline(results, "din", "gauc") == (
        "The baseline lightgbm wins: log loss 0.3100, din 0.6171."
        " As probabilities the scores of din mislead: train on more days."
    )


def test_no_baseline_is_named_if_the_model_wins():
    assert winning_baseline({n: RESULTS[n] for n in ("din", "base rate")}, "din", "gauc") == ""
