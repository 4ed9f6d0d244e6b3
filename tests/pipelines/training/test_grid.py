"""Which dimension of mean matches din, over the seeds of a grid."""

import pytest

from pipelines.training.grid import Trial, matching_dimension, mean_of_seeds

TRIALS = [
    Trial(encoder, dimension, seed, {"auc": auc})
    for encoder, dimension, seed, auc in [
        ("din", 8, 1, 0.80), ("din", 8, 2, 0.82), ("mean", 8, 1, 0.70), ("mean", 16, 1, 0.81),
        ("mean", 16, 2, 0.83), ("mean", 32, 1, 0.9), ("din", 16, 1, 0.9), ("din", 32, 1, 0.9),
    ]
]  # fmt: skip


def test_the_matching_dimension_is_the_smallest_that_reaches_din():
    assert matching_dimension(TRIALS, 8) == 16
    assert matching_dimension(TRIALS[:3], 8) is None
    assert matching_dimension(TRIALS, 4) is None


def test_seeds_are_averaged_with_their_standard_deviation():
    mean, spread = mean_of_seeds(TRIALS, "auc")["din", 8]
    assert (mean, spread) == (pytest.approx(0.81), pytest.approx(0.0141421, rel=1e-4))
