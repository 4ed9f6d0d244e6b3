"""Whether scores have moved: histograms of them that add up, and how far two of them are apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from din_model.errors import InputError
from din_model.evaluation.calibration import buckets_of

EDGES = np.linspace(-10.0, 10.0, 201)
"""Of the bins, in log-odds: a tenth each. Scores beyond count in the first and the last bin."""

BINS = len(EDGES) - 1


def histogram(scores: NDArray[Any], shift: float = 0.0) -> NDArray[Any]:
    """Count scores [N] (probabilities) by their log-odds: int64 [BINS].

    The bins are always the same, so the counts of parts, days and versions add up.

    Args:
        shift: added to the log-odds first; see din_model.registry.artifact.ModelMetadata.logit_shift.

    Raises:
        InputError: a score is no probability.
    """
    p = np.asarray(scores, np.float64)
    if wrong := int((~((p >= 0) & (p <= 1))).sum()):
        raise InputError(f"{wrong:,} of {p.size:,} scores are no probability: the model is broken")
    with np.errstate(divide="ignore"):  # of 0 and 1, which belong to the end bins
        odds = np.log(p) - np.log1p(-p) + shift
    at = np.searchsorted(EDGES, odds, side="right") - 1
    return np.bincount(np.clip(at, 0, BINS - 1), minlength=BINS)


def psi(now: NDArray[Any], before: NDArray[Any], buckets: int = 10) -> float:
    """Population stability index of two histograms [BINS]: how far ``now`` has moved, >= 0.

    Sum over buckets of (now - before) ln(now / before), both shares. The buckets hold about equal
    rows of ``before``: its deciles, cut between bins. An empty bucket counts as half a row. By a
    rule of thumb below 0.1 is steady and above 0.25 has moved; chance alone gives about
    (buckets - 1) (1 / rows now + 1 / rows before).

    Returns nan where either has no rows.
    """
    now, before = np.asarray(now, np.float64), np.asarray(before, np.float64)
    if not (now.sum() and before.sum()):
        return float("nan")
    bucket = buckets_of(before, buckets)
    sums = [np.bincount(bucket, counts, buckets) for counts in (now, before)]
    some = (sums[0] > 0) | (sums[1] > 0)  # a bin that holds two deciles leaves a bucket unused
    share, was = (np.maximum(s[some], 0.5) / s.sum() for s in sums)
    return float(((share - was) * np.log(share / was)).sum())
