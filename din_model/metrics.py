"""How good scores are: AUC, GAUC, log loss, calibration. Plain NumPy, exact, ties counted half."""

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Calibration(NamedTuple):
    """One bucket: rows of neighbouring scores, their mean score and their click rate."""

    rows: int
    score: float
    rate: float


def auc(label: Array, score: Array) -> float:
    """Probability that a click scores above a non-click, [B] and [B]; nan without both."""
    return float(gauc(label, score, np.zeros(len(label), np.int64)))


def gauc(label: Array, score: Array, user: Array) -> float:
    """AUC within each user, averaged by impressions (arXiv 1706.06978, equation 7).

    Users who clicked all or nothing have no AUC and no weight. nan where nobody has one.
    """
    if len(label) == 0:
        return float("nan")
    order = np.lexsort((score, user))
    label, score, user = label[order] > 0, score[order], user[order]
    new_user = np.r_[True, user[1:] != user[:-1]]
    new_tie = new_user | np.r_[True, score[1:] != score[:-1]]
    tie = np.cumsum(new_tie) - 1
    first = np.flatnonzero(new_tie)
    size = np.diff(np.r_[first, len(label)])
    owner = np.cumsum(new_user) - 1
    start = np.flatnonzero(new_user)[owner]
    rank = (first + (size - 1) / 2)[tie] - start + 1  # mean rank within the user, from 1
    shown = np.bincount(owner).astype(float)
    clicks = np.bincount(owner, label)
    rank_sum = np.bincount(owner, rank * label)
    others = shown - clicks
    has_both = (clicks > 0) & (others > 0)
    if not has_both.any():
        return float("nan")
    clicks, others, shown = clicks[has_both], others[has_both], shown[has_both]
    each = (rank_sum[has_both] - clicks * (clicks + 1) / 2) / (clicks * others)
    return float(np.average(each, weights=shown))


def log_loss(label: Array, probability: Array) -> float:
    """Mean negative log likelihood, in nats; probabilities are kept 1e-7 off 0 and 1."""
    p = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(label > 0, np.log(p), np.log1p(-p))))


def calibration(label: Array, probability: Array, buckets: int = 10) -> list[Calibration]:
    """Rows in order of score, cut into buckets of equal size."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, buckets) if len(part)]
    return [Calibration(len(p), probability[p].mean(), label[p].mean()) for p in parts]


def evaluate(label: Array, probability: Array, user: Array) -> dict[str, float]:
    """All of the above as one dict; ``calibration`` is mean probability over click rate."""
    rate = float(np.mean(label)) if len(label) else float("nan")
    return {
        "auc": auc(label, probability),
        "gauc": gauc(label, probability, user),
        "log_loss": log_loss(label, probability),
        "calibration": float(np.mean(probability)) / rate if rate else float("nan"),
        "rows": float(len(label)),
        "clicks": float(np.sum(label > 0)),
    }
