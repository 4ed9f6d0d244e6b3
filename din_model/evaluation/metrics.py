"""Streaming metrics: a Meter reads any number of batches in bounded memory.

AUC and calibration use a fine histogram of the scores. GAUC partitions users into files that are
read back one at a time. Each rank meters its own rows, and ``result`` covers all ranks.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from din_model.distributed.collectives import all_gather_jagged, all_reduce
from din_model.evaluation.calibration import Calibration, buckets_of

Array = NDArray[Any]

BINS = 1 << 20
"""Scores closer than a millionth count as equal in AUC (half a pair each)."""

CELLS = 1 << 16
"""Users are assigned to cells by id and resampled by cell. Up to this number, each user has its own
cell; users that share a cell are drawn together, which bounds memory and time without bias.
"""

PARTS = 64
RECORD = np.dtype([("user", "i8"), ("score", "f4"), ("label", "f4")])


def rank_by(metrics: Mapping[str, float], name: str) -> float:
    """Return a sort key that puts the best value of a metric first, and a missing one last."""
    value = metrics.get(name, float("nan"))
    if value != value:
        return float("inf")
    return value if name == "log_loss" else -value


class Users(NamedTuple):
    """Per user [U], ordered by id: rows, exact AUC (nan without both labels) and log loss."""

    id: Array
    rows: Array
    auc: Array
    log_loss: Array


class Sums(NamedTuple):
    """A metric by cells of users [CELLS]; its value is ``total.sum() / weight.sum()``."""

    total: Array
    weight: Array

    def mean(self) -> float:
        """Return the value of the metric; nan without weight."""
        weight = self.weight.sum()
        return float(self.total.sum() / weight) if weight else float("nan")


@dataclass(frozen=True)
class Tally:
    """What the metrics of some rows are made of; tallies of other rows and users add up.

    Attributes:
        histogram: per bin of the score, rows without a click, rows with one, and the sum of their
            scores [3, bins].
        loss: log loss of all rows, in nats.
        by_user: ``gauc`` and ``log_loss`` by cells of users; empty if users were not told apart.
    """

    histogram: Array
    loss: float
    by_user: dict[str, Sums]

    def metrics(self) -> dict[str, float]:
        """Return the metrics; nan if undefined.

        ``auc``; ``gauc``, weighted by impressions (arXiv 1706.06978, equation 7); ``log_loss`` in
        nats; ``normalised_entropy``, log loss over that of the click rate (He et al. 2014);
        ``calibration``, mean score over click rate; ``rows``, ``clicks``.
        """
        others, clicks, scores = self.histogram
        rows, clicked = others.sum() + clicks.sum(), clicks.sum()
        metrics = {"auc": _auc(others, clicks)}
        if self.by_user:
            metrics["gauc"] = self.by_user["gauc"].mean()
        undefined = float("nan")
        metrics["log_loss"] = self.loss / rows if rows else undefined
        entropy = _entropy(clicked / rows) if rows else 0.0
        metrics["normalised_entropy"] = metrics["log_loss"] / entropy if entropy else undefined
        metrics["calibration"] = float(scores.sum() / clicked) if clicked else undefined
        return metrics | {"rows": float(rows), "clicks": float(clicked)}

    def calibration(self, buckets: int = 10) -> list[Calibration]:
        """Return buckets of about equal rows, ordered by score and cut between bins."""
        others, clicks, scores = self.histogram
        bucket = buckets_of(others + clicks, buckets)
        sums = [np.bincount(bucket, each, buckets) for each in (others + clicks, scores, clicks)]
        return [Calibration(int(n), s / n, c / n) for n, s, c in zip(*sums, strict=True) if n]


class Meter:
    """Accumulates the metrics of batches of (label, score, user).

    A context manager: files for GAUC are removed when it exits.
    """

    def __init__(self, bins: int = BINS, by_user: bool = True) -> None:
        """``by_user`` false omits GAUC and uses no disk."""
        self.bins = bins
        # Per bin: unclicked rows, clicked rows, and the sum of their scores.
        self._histogram = np.zeros((3, bins))
        self._loss = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="meter-") if by_user else None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(self, label: Array, score: Array, user: Array | None = None) -> None:
        """Add rows: label [B] (0 or 1), score [B] (probabilities), user [B] (integers)."""
        clicked = np.asarray(label) > 0
        p = np.asarray(score, np.float64)
        self._loss -= log_likelihood(clicked, p).sum()
        bins = np.minimum((p * self.bins).astype(np.int64), self.bins - 1)
        np.add.at(self._histogram[0], bins[~clicked], 1)
        np.add.at(self._histogram[1], bins[clicked], 1)
        np.add.at(self._histogram[2], bins, p)
        if self._folder and user is not None:
            self._append(np.asarray(user, np.int64), p, clicked)

    def tally(self) -> Tally:
        """Return the tally of all rows of all ranks, in any order of rows.

        Tallies of the same rows have the same weights by user and differ in their totals only.
        """
        loss = float(_over_ranks(np.array([self._loss]))[0])
        return Tally(_over_ranks(self._histogram), loss, self._by_user() if self._folder else {})

    def result(self) -> dict[str, float]:
        """Return the metrics of all rows of all ranks."""
        return self.tally().metrics()

    def _by_user(self) -> dict[str, Sums]:
        sums = {name: Sums(*np.zeros((2, CELLS))) for name in ("gauc", "log_loss")}
        for users in self._users():
            cell, both = users.id % CELLS, ~np.isnan(users.auc)
            parts = {
                "gauc": (cell[both], (users.auc * users.rows)[both], users.rows[both]),
                "log_loss": (cell, users.log_loss, users.rows),
            }
            for name, (cells, total, weight) in parts.items():
                np.add.at(sums[name].total, cells, total)
                np.add.at(sums[name].weight, cells, weight)
        return sums

    def _append(self, user: Array, score: Array, clicked: Array) -> None:
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

    def _users(self) -> Iterator[Users]:
        """Yield all users of all ranks, file by file."""
        for part in range(PARTS):
            path = self._file(part)
            records = np.fromfile(path, RECORD) if path.exists() else np.empty(0, RECORD)
            fields = (torch.from_numpy(records[name].copy()) for name in ("label", "score", "user"))
            label, score, user = (
                torch.cat(parts).numpy() for parts in all_gather_jagged(list(fields))
            )
            yield each_user(label, score, user)


def relative_improvement(auc: float, base: float) -> float:
    """RelaImpr (arXiv 1706.06978, equation 8): gain over chance relative to a base model."""
    return (auc - 0.5) / (base - 0.5) - 1 if base != 0.5 else float("nan")


def auc(label: Array, score: Array) -> float:
    """Return the exact probability that a click scores above a non-click, ties half.

    nan without both labels.
    """
    areas = each_user(label, score, np.zeros(len(label), np.int64)).auc
    return float(areas[0]) if len(areas) else float("nan")


def each_user(label: Array, score: Array, user: Array) -> Users:
    """Return the metrics of each user's rows; bitwise independent of the row order."""
    if len(label) == 0:
        return Users(np.empty(0, np.int64), *np.empty((3, 0)))
    order = np.lexsort((label, score, user))
    label, score, user = label[order] > 0, score[order], user[order]
    new_user = np.r_[True, user[1:] != user[:-1]]
    new_tie = new_user | np.r_[True, score[1:] != score[:-1]]
    tie = np.cumsum(new_tie) - 1
    first = np.flatnonzero(new_tie)
    size = np.diff(np.r_[first, len(label)])
    owner = np.cumsum(new_user) - 1
    start = np.flatnonzero(new_user)[owner]
    rank = (first + (size - 1) / 2)[tie] - start + 1  # mean rank within the user, from 1
    rows = np.bincount(owner).astype(float)
    clicks = np.bincount(owner, label)
    above = np.bincount(owner, rank * label) - clicks * (clicks + 1) / 2
    pairs = clicks * (rows - clicks)
    area = np.divide(above, pairs, out=np.full(len(rows), np.nan), where=pairs > 0)
    loss = np.bincount(owner, -log_likelihood(label, score.astype(np.float64)))
    return Users(user[new_user], rows, area, loss)


def log_likelihood(clicked: Array, probability: Array) -> Array:
    """Return the log likelihood of each row, in nats.

    Probabilities are clipped to [1e-7, 1 - 1e-7].
    """
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.where(clicked, np.log(p), np.log1p(-p))


def _auc(others: Array, clicks: Array) -> float:
    pairs = others.sum() * clicks.sum()
    below = np.cumsum(others) - others / 2
    return float(clicks @ below / pairs) if pairs else float("nan")


def _entropy(rate: float) -> float:
    return float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate)) if 0 < rate < 1 else 0.0


def _over_ranks(sums: Array) -> Array:
    return all_reduce(torch.from_numpy(sums)).numpy()
