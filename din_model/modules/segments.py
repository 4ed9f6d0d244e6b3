"""Reductions over the segments of a jagged tensor: sums, means and softmax, each with its derivative."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.data.batch import Histories

MANY = 8
"""Candidates a history, on average, from which on it pays to take a history at a time."""


@dataclass(frozen=True)
class Pairs:
    """Every (row, behaviour) pair of a batch, rows in order.

    Where all of a user's candidates share a history, its behaviours occur once a candidate.
    """

    offsets: Tensor  # [B + 1]: pairs of row b are offsets[b] to offsets[b + 1]
    start: Tensor  # [B]: where the history of row b begins among the behaviours
    history_of: Tensor | None  # [B]: the history of each row; None: rows and histories are the same

    @cached_property
    def row(self) -> Tensor:
        """The row of each pair [P]."""
        return torch.repeat_interleave(self.offsets.diff())

    @cached_property
    def position(self) -> Tensor:
        """The behaviour of each pair [P], an index into the behaviours."""
        position = torch.arange(len(self.row), device=self.row.device)
        if self.history_of is None:
            return position
        return position + (self.start - self.offsets[:-1])[self.row]

    def of_row(self, values: Tensor) -> Tensor:
        """What each pair has of its row: [B, d] -> [P, d]."""
        return _OfRow.apply(values, self.row, self.offsets)

    def of_behaviour(self, values: Tensor) -> Tensor:
        """What each pair has of its behaviour: [N, d] -> [P, d]."""
        return values if self.history_of is None else values[self.position]

    @property
    def many(self) -> bool:
        """Whether most rows share their history with many others that stand beside them."""
        if self.history_of is None:
            return False
        runs = 1 + int((self.history_of.diff() != 0).sum())
        return len(self.history_of) >= MANY * runs

    def runs(self) -> Iterator[tuple[slice, slice]]:
        """Rows that stand together and share a history, with its behaviours."""
        assert self.history_of is not None
        _, counts = torch.unique_consecutive(self.history_of, return_counts=True)
        ends = counts.cumsum(0)
        starts, lengths = self.start[ends - 1].tolist(), self.offsets.diff()[ends - 1].tolist()
        row = 0
        for end, start, length in zip(ends.tolist(), starts, lengths, strict=True):
            yield slice(row, end), slice(start, start + length)
            row = end


class _OfRow(torch.autograd.Function):
    """Indexing by rows that lie in order: its derivative is a sum over runs, not a scatter."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, row: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(offsets)
        return values.index_select(0, row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return segment_reduce(gradient, ctx.saved_tensors[0]), None, None


def segment_reduce(values: Tensor, offsets: Tensor, mode: str = "sum") -> Tensor:
    """Sum (or ``mean``) of each run of rows: [P, d] -> [B, d]; zero for an empty run."""
    everything = torch.arange(values.shape[0], device=values.device)
    return F.embedding_bag(everything, values, offsets, mode=mode, include_last_offset=True)


def pairs_of(histories: Histories, history_of: Tensor | None) -> Pairs:
    """Pair each row with the behaviours of its own history."""
    start, lengths = histories.offsets[:-1], histories.offsets.diff()
    if history_of is not None:
        start, lengths = start[history_of], lengths[history_of]
    return Pairs(F.pad(lengths.cumsum(0), (1, 0)), start, history_of)


def segment_softmax(scores: Tensor, pairs: Pairs) -> Tensor:
    """Softmax over the pairs of each row: [P] -> [P], or K softmaxes at once: [P, K] -> [P, K]."""
    shape = (pairs.offsets.shape[0] - 1, *scores.shape[1:])
    row = pairs.row.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    top = scores.new_full(shape, -torch.inf)
    top = top.scatter_reduce(0, row, scores.detach(), "amax")
    raised = torch.exp(scores - top[pairs.row])
    return raised / scores.new_zeros(shape).index_add(0, pairs.row, raised)[pairs.row]


class _WeightedSum(torch.autograd.Function):
    """Sum of weight * behaviour over the pairs of each row."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, weights: Tensor, row: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(keys, weights, row)
        return segment_reduce(keys * weights[:, None], offsets)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        keys, weights, row = ctx.saved_tensors
        of_pair = gradient.index_select(0, row)
        return of_pair * weights[:, None], (of_pair * keys).sum(1), None, None


def weighted_sum(keys: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
    """Sum of weight * key over the pairs of each row: [P, d], [P] -> [B, d]; zero for none."""
    return _WeightedSum.apply(keys, weights, pairs.row, pairs.offsets)


def segment_starts(ascending: Tensor) -> Tensor:
    """Where each run of equal numbers begins [runs], in numbers [n] that ascend."""
    return F.pad(ascending.diff() != 0, (1, 0), value=True)[: len(ascending)].nonzero()[:, 0]
