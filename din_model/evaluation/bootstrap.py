"""Bootstrap interval of the difference between two models on the same rows."""

from typing import NamedTuple

import numpy as np

from din_model.evaluation.metrics import Sums


class BootstrapInterval(NamedTuple):
    """How much better, and the interval that holds it with the confidence asked for."""

    point: float
    low: float
    high: float


def gain(
    one: Sums, other: Sums, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> BootstrapInterval:
    """What ``one`` has over the ``other`` model on the same rows, with a bootstrap interval.

    Users are drawn with replacement (Efron 1979), each with all their rows and both models' scores
    on them: rows of one user are not independent, and what both models find hard cancels out. The
    interval lies between percentiles of the resamples. nan where no user has weight.

    Args:
        confidence: that the interval holds the gain; half of what is left lies below it.
    """
    some = one.weight > 0
    more, weight = (one.total - other.total)[some], one.weight[some]
    if not len(weight):
        return BootstrapInterval(*[float("nan")] * 3)
    rng, found, at_once = np.random.default_rng(seed), np.empty(resamples), 1 << 22
    for block in np.array_split(found, -(-resamples * len(weight) // at_once)):
        drawn = rng.integers(0, len(weight), (len(block), len(weight)))
        block[:] = more[drawn].sum(1) / weight[drawn].sum(1)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(more.sum() / weight.sum()), float(low), float(high))
