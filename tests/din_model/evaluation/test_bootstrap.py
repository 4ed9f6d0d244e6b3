"""An interval says how far it can be trusted."""

import numpy as np

from din_model.evaluation.bootstrap import LEAST_USERS, gain
from din_model.evaluation.metrics import Sums


def sums(value: float, users: int) -> Sums:
    return Sums(np.full(users, value), np.ones(users))


def test_a_few_users_are_too_few_however_large_the_gain():
    few, enough = (gain(sums(0.9, n), sums(0.5, n)) for n in (LEAST_USERS - 1, LEAST_USERS))
    assert few.low == enough.low
    assert enough.above(0)
    assert not few.above(0)
    assert str(enough) == "0.4000 [0.4000, 0.4000]"
    assert str(few) == "0.4000 [0.4000, 0.4000] (of 29 users, 30 are needed)"


def test_no_user_is_said_in_words():
    interval = gain(Sums(np.zeros(3), np.zeros(3)), Sums(np.zeros(3), np.zeros(3)))
    assert str(interval) == "unknown (no user has both clicked and unclicked rows)"
    assert not interval.above(-1)
