"""Bootstrap interval of the difference between two models on the same rows."""

from typing import NamedTuple

import numpy as np

from din_model.evaluation.metrics import Sums


class BootstrapInterval(NamedTuple):
    """A gain, its confidence interval, and the number of users that it was measured on."""

    point: float
    low: float
    high: float
    users: int

    def __str__(self) -> str:
        if not self.users:
            return "(not measurable: no user has a clicked and an unclicked row)"
        return f"{self.point:.4f} [{self.low:.4f}, {self.high:.4f}]"


def gain(
    one: Sums, other: Sums, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> BootstrapInterval:
    """Return the gain of ``one`` model over the ``other`` on the same rows, with its interval.

    Users are resampled with replacement (Efron 1979), each with all rows and both models' scores:
    rows of a user are not independent, and what both models find hard cancels out. The interval
    lies between percentiles of the resamples. nan if no user has weight. The users are counted by
    cells, see evaluation.metrics.

    Args:
        one: metric of the first model by cells of users.
        other: metric of the second model.
        confidence: probability that the interval covers the gain.
        resamples: number of resamples.
        seed: of the resampling.
    """
    weighted = one.weight > 0
    difference, weight = (one.total - other.total)[weighted], one.weight[weighted]
    if not len(weight):
        return BootstrapInterval(np.nan, np.nan, np.nan, 0)
    rng, gains, block_size = np.random.default_rng(seed), np.empty(resamples), 1 << 22
    for block in np.array_split(gains, -(-resamples * len(weight) // block_size)):
        sample = rng.integers(0, len(weight), (len(block), len(weight)))
        block[:] = difference[sample].sum(1) / weight[sample].sum(1)
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    point = float(difference.sum() / weight.sum())
    return BootstrapInterval(point, float(low), float(high), len(weight))
