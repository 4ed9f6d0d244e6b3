"""Calibration: mean score against click rate, in buckets of about equal rows."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Calibration(NamedTuple):
    """One bucket: rows of neighbouring scores, their mean score and their click rate."""

    rows: int
    score: float
    rate: float


def buckets_of(counts: NDArray[Any], buckets: int = 10) -> NDArray[Any]:
    """The bucket of each bin [BINS], from 0: in order, of about equal rows, cut between bins.

    A bin goes where its middle row does, so bins below and above a heavy one are not its bucket's.
    """
    middle = np.cumsum(counts) - counts / 2
    return np.clip(middle * buckets // max(counts.sum(), 1), 0, buckets - 1).astype(int)
