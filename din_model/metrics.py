"""How good scores are, streamed: a Meter takes batches of any number in bounded memory.

AUC and calibration come from a fine histogram of the scores, GAUC from users dealt out to files
that are read back one by one. On several ranks each meters its own rows, and ``result`` is that of
all.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from din_model.distributed import gather, sum_over_ranks

Array = np.ndarray

BINS = 1 << 20
"""Scores closer than a millionth count as equal in AUC (half a pair each)."""

PARTS = 64
RECORD = np.dtype([("user", "i8"), ("score", "f4"), ("label", "f4")])


class Calibration(NamedTuple):
    """One bucket: rows of neighbouring scores, their mean score and their click rate."""

    rows: int
    score: float
    rate: float


class Meter:
    """Adds up what batches of (label, score, user) are worth.

    A context: what GAUC keeps on disk goes when it is closed.
    """

    def __init__(self, bins: int = BINS, by_user: bool = True) -> None:
        """``by_user`` false leaves GAUC out, and needs no disk."""
        self.bins = bins
        # Per bin: rows without and with a click, and the sum of their scores.
        self._histogram = np.zeros((3, bins))
        self._loss = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="meter-") if by_user else None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(self, label: Array, score: Array, user: Array | None = None) -> None:
        """label [B] (0 or 1), score [B] (probabilities), user [B] (integers)."""
        clicked = np.asarray(label) > 0
        p = np.asarray(score, np.float64)
        self._loss -= log_likelihood(clicked, p).sum()
        bins = np.minimum((p * self.bins).astype(np.int64), self.bins - 1)
        np.add.at(self._histogram[0], bins[~clicked], 1)
        np.add.at(self._histogram[1], bins[clicked], 1)
        np.add.at(self._histogram[2], bins, p)
        if self._folder and user is not None:
            self._keep(np.asarray(user, np.int64), p, clicked)

    def result(self) -> dict[str, float]:
        """Metrics of all rows of all ranks; nan where they have no meaning.

        ``auc``; ``gauc``, by impressions (arXiv 1706.06978, equation 7); ``log_loss`` in nats;
        ``normalised_entropy``, log loss over that of the click rate (He et al. 2014);
        ``calibration``, mean score over click rate; ``rows``, ``clicks``.
        """
        histogram = _over_ranks(self._histogram)
        others, clicks, scores = histogram
        rows, clicked = others.sum() + clicks.sum(), clicks.sum()
        found = {"auc": _auc(others, clicks)}
        if self._folder:
            found["gauc"] = self._gauc()
        loss = float(_over_ranks(np.array([self._loss]))[0])
        nothing = float("nan")
        found["log_loss"] = loss / rows if rows else nothing
        entropy = _entropy(clicked / rows) if rows else 0.0
        found["normalised_entropy"] = found["log_loss"] / entropy if entropy else nothing
        found["calibration"] = float(scores.sum() / clicked) if clicked else nothing
        return found | {"rows": float(rows), "clicks": float(clicked)}

    def calibration(self, buckets: int = 10) -> list[Calibration]:
        """Rows in order of score, cut into buckets of about equal size (between bins)."""
        others, clicks, scores = _over_ranks(self._histogram)
        upto = np.cumsum(others + clicks)
        bucket = np.clip((upto - 1) * buckets // max(upto[-1], 1), 0, buckets - 1).astype(int)
        sums = [np.bincount(bucket, each, buckets) for each in (others + clicks, scores, clicks)]
        return [Calibration(int(n), s / n, c / n) for n, s, c in zip(*sums, strict=True) if n]

    def _keep(self, user: Array, score: Array, clicked: Array) -> None:
        records = np.empty(len(user), RECORD)
        records["user"], records["score"], records["label"] = user, score, clicked
        part = user % PARTS
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(PARTS + 1))
        for number in np.unique(part):
            with self._file(number).open("ab") as file:
                records[order[ends[number] : ends[number + 1]]].tofile(file)

    def _file(self, part: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"{part}"

    def _gauc(self) -> float:
        total = weight = 0.0
        for part in range(PARTS):
            path = self._file(part)
            mine = np.fromfile(path, RECORD) if path.exists() else np.empty(0, RECORD)
            fields = (torch.from_numpy(mine[name].copy()) for name in ("label", "score", "user"))
            label, score, user = (field.numpy() for field in gather(list(fields)))
            each, shown = auc_by_user(label, score, user)
            total, weight = total + float(each @ shown), weight + float(shown.sum())
        return total / weight if weight else float("nan")


def relative_improvement(auc: float, base: float) -> float:
    """RelaImpr (arXiv 1706.06978, equation 8): gain over chance against that of a base model."""
    return (auc - 0.5) / (base - 0.5) - 1


def auc(label: Array, score: Array) -> float:
    """Probability that a click scores above a non-click, ties half; exact. nan without both."""
    each, _ = auc_by_user(label, score, np.zeros(len(label), np.int64))
    return float(each[0]) if len(each) else float("nan")


def auc_by_user(label: Array, score: Array, user: Array) -> tuple[Array, Array]:
    """AUC within each user, and the user's rows; exact, ties half.

    Users who clicked all or nothing have no AUC and are left out.
    """
    if len(label) == 0:
        return np.empty(0), np.empty(0)
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
    both = (clicks > 0) & (clicks < shown)
    clicks, shown, rank_sum = clicks[both], shown[both], rank_sum[both]
    return (rank_sum - clicks * (clicks + 1) / 2) / (clicks * (shown - clicks)), shown


def log_likelihood(clicked: Array, probability: Array) -> Array:
    """Of each row, in nats; probabilities are kept 1e-7 off 0 and 1."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.where(clicked, np.log(p), np.log1p(-p))


def _auc(others: Array, clicks: Array) -> float:
    pairs = others.sum() * clicks.sum()
    below = np.cumsum(others) - others / 2
    return float(clicks @ below / pairs) if pairs else float("nan")


def _entropy(rate: float) -> float:
    return float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate)) if 0 < rate < 1 else 0.0


def _over_ranks(sums: Array) -> Array:
    return sum_over_ranks(torch.from_numpy(sums)).numpy()
