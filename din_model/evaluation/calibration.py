"""Calibration: mean score against click rate, in buckets of about equal rows."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Calibration(NamedTuple):
    """One bucket: rows with neighbouring scores, their mean score and their click rate."""

    rows: int
    score: float
    rate: float


def buckets_of(counts: NDArray[Any], buckets: int = 10) -> NDArray[Any]:
    """Return the bucket of each bin [BINS], from 0: ordered, with about equal rows.

    A bin belongs to the bucket of its middle row, so bins around a heavy one get other buckets.
    """
    middle = np.cumsum(counts) - counts / 2
    return np.clip(middle * buckets // max(counts.sum(), 1), 0, buckets - 1).astype(int)
