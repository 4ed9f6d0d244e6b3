"""Drift of scores: additive histograms, and the distance between two of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from din_model.errors import InputError
from din_model.evaluation.calibration import buckets_of

EDGES = np.linspace(-10.0, 10.0, 201)
"""Bin edges in log odds, one tenth apart. Scores beyond them fall into the first and last bin."""

BINS = len(EDGES) - 1


def histogram(scores: NDArray[Any], shift: float = 0.0) -> NDArray[Any]:
    """Count scores [N] (probabilities) by their log odds: int64 [BINS].

    The bins are fixed, so counts of parts, days and versions can be added.

    Args:
        scores: probabilities [N].
        shift: added to the log odds first; see registry.artifact.ModelMetadata.logit_shift.

    Raises:
        InputError: a score is not a probability.
    """
    p = np.asarray(scores, np.float64)
    if invalid := int((~((p >= 0) & (p <= 1))).sum()):
        raise InputError(f"{invalid:,} of {p.size:,} scores are not probabilities: train again")
    with np.errstate(divide="ignore"):  # log(0), for scores of 0 and 1: the end bins
        odds = np.log(p) - np.log1p(-p) + shift
    bins = np.searchsorted(EDGES, odds, side="right") - 1
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def psi(now: NDArray[Any], before: NDArray[Any], buckets: int = 10) -> float:
    """Population stability index of two histograms [BINS]: how far ``now`` moved, >= 0.

    Sum over buckets of (now - before) ln(now / before), as shares. The buckets are the deciles of
    ``before``, cut between bins. An empty bucket counts as half a row. As a rule of thumb, below
    0.1 is stable and above 0.25 has moved; chance alone gives about (buckets - 1) (1 / rows now + 1
    / rows before).

    Returns nan if either histogram is empty.
    """
    now, before = np.asarray(now, np.float64), np.asarray(before, np.float64)
    if not (now.sum() and before.sum()):
        return float("nan")
    bucket = buckets_of(before, buckets)
    sums = [np.bincount(bucket, counts, buckets) for counts in (now, before)]
    used = (sums[0] > 0) | (sums[1] > 0)  # a bin with two deciles leaves one bucket empty
    share, was = (np.maximum(s[used], 0.5) / s.sum() for s in sums)
    return float(((share - was) * np.log(share / was)).sum())
