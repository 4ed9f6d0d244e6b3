"""An interval counts its users, and says so where there is none."""

import numpy as np

from din_model.evaluation.bootstrap import gain
from din_model.evaluation.metrics import Sums


def test_an_interval_counts_only_users_with_weight():
    weight = np.array([2.0, 0.0, 3.0])
    interval = gain(Sums(0.9 * weight, weight), Sums(0.5 * weight, weight))
    assert interval.users == 2
    assert str(interval) == "0.4000 [0.4000, 0.4000]"


def test_a_gain_without_users_is_described_in_words():
    interval = gain(Sums(np.zeros(3), np.zeros(3)), Sums(np.zeros(3), np.zeros(3)))
    assert str(interval) == "(not measurable: no user has a clicked and an unclicked row)"
