"""Each guard lets a good night pass, and holds a bad one back with its number."""

from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.evaluation.drift import histogram
from pipelines.scoring.guards import (
    Breach,
    GuardsConfig,
    calibration,
    change,
    check,
    compare,
    measure,
)

LIMITS = GuardsConfig(
    min_coverage=0.9, max_drift=0.2, max_drift_from_validation=0.3, max_calibration=1.5,
    min_clicks=50, max_unknown_users=0.4, max_unknown_items=0.3, max_without_history=0.5,
)  # fmt: skip
GOOD = {
    "coverage": 0.95, "drift": 0.1, "drift_from_validation": 0.2, "unknown_users": 0.3,
    "unknown_items": 0.2, "without_history": 0.4, "expected": 70.0, "clicks": 60.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("coverage", 0.89, "min_coverage"),
        ("drift", 0.21, "max_drift"),
        ("drift_from_validation", 0.31, "max_drift_from_validation"),
        ("unknown_users", 0.41, "max_unknown_users"),
        ("unknown_items", 0.31, "max_unknown_items"),
        ("without_history", 0.51, "max_without_history"),
        ("expected", 91.0, "max_calibration"),
        ("expected", 39.0, "max_calibration"),
    ],
)
def test_a_breach_names_number_and_limit_and_null_sets_no_limit(name, value, key):
    check(GOOD, LIMITS, "2026-11-23")
    check({}, LIMITS, "2026-11-23")
    bad = GOOD | {name: value}
    with pytest.raises(InputError, match=rf"2026-11-23 are held back.*score\.guards\.{key}") as e:
        check(bad, LIMITS, "2026-11-23")
    number = f"{value / 60:.3f}" if name == "expected" else f"{value:.4f}"
    assert number in str(e.value)
    assert "\n" not in str(e.value)
    check(bad, replace(LIMITS, **{key: None}), "2026-11-23")


def test_calibration_is_not_checked_with_too_few_clicks():
    check(GOOD | {"expected": 500.0, "clicks": 49.0}, LIMITS, "2026-11-23")


def test_all_breaches_are_reported_together():
    with pytest.raises(Breach, match=r"coverage 0\.1000 is below.*drift 0\.9000 is above") as e:
        check(GOOD | {"coverage": 0.1, "drift": 0.9, "expected": 1.0}, LIMITS, "2026-11-23")
    assert e.value.names == ("coverage", "drift", "calibration")


def test_a_drift_says_how_the_mean_score_of_the_version_changed():
    changed = change({"version": 3, "mean_score": 0.05}, {"version": 3, "mean_score": 0.2})
    words = r"max_drift 0\.2 \(version 3 scored both; the mean score is 0\.050, was 0\.200\)"
    with pytest.raises(InputError, match=words):
        check(GOOD | {"drift": 0.9}, LIMITS, "2026-11-23", changed)
    assert change({"version": 3, "mean_score": 0.05}, None) == ""


def test_a_table_is_measured_in_one_pass(spark):
    rng = np.random.default_rng(0)
    p = np.r_[1 / (1 + np.exp(-rng.normal(-2, 3, 500))), 0.0, 1.0, 1e-9]
    rows = [(float(x), n % 4, n % 5 == 0, n % 10 == 0) for n, x in enumerate(p)]
    schema = "score double, history_length int, unknown_user boolean, unknown_item boolean"
    found = measure(spark.createDataFrame(rows, schema))
    assert found["histogram"] == histogram(p).tolist()
    assert found["mean_score"] == pytest.approx(p.mean())
    assert found["without_history"] == pytest.approx(126 / 503)
    assert found["unknown_users"] == pytest.approx(101 / 503)
    assert found["unknown_items"] == pytest.approx(51 / 503)
    moved = compare(found, {"histogram": histogram(p**0.5).tolist()}, histogram(p).tolist())
    assert moved["drift"] > 0.25
    assert moved["drift_from_validation"] == 0
    assert compare(found, None, []) == {} == compare(found, {"facts": "of an older release"}, [])


@pytest.mark.parametrize("wrong", [float("nan"), 1.5, -0.1])
def test_scores_outside_0_and_1_are_never_published(spark, wrong):
    rows = spark.createDataFrame(
        [(0.5, 1, False, False), (wrong, 1, False, False)],
        "score double, history_length int, unknown_user boolean, unknown_item boolean",
    )
    with pytest.raises(InputError, match="1 scores are not probabilities"):
        measure(rows)


def test_the_last_scores_are_compared_with_the_clicks_that_followed(spark):
    scores = spark.range(1000).select(
        F.col("id").cast("string").alias("user"), F.lit("i").alias("item"),
        (F.col("id") / 2000).alias("score"),
    )  # fmt: skip
    shown = scores.where("cast(user as int) % 10 = 0").select(
        "user", "item", (F.col("user") % 20 == 0).cast("double").alias("label"),
        F.lit(3.0).alias("weight"),
    )  # fmt: skip
    shown = shown.union(spark.createDataFrame([("nobody", "i", 1.0, 3.0)]))
    sums, curve = calibration(scores, shown, ["user", "item"])
    expected = 3 * sum(n / 2000 for n in range(0, 1000, 10))
    assert sums == {"shown": 300, "expected": pytest.approx(expected), "clicks": 150}
    assert sum(b.rows for b in curve) == 300
    assert len(curve) > 5
    assert [b.score for b in curve] == sorted(b.score for b in curve)
    assert sum(b.rate * b.rows for b in curve) == pytest.approx(150)
