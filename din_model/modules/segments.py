"""Reductions over the segments of a jagged tensor, and the (row, behaviour) pairs of a batch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.data.batch import Histories


@dataclass(frozen=True)
class Pairs:
    """Every (row, behaviour) pair of a batch, ordered by row.

    If all candidates of a user share a history, its behaviours occur once per candidate.
    """

    offsets: Tensor  # [B + 1]: row b has the pairs offsets[b] to offsets[b + 1]
    start: Tensor  # [B]: index of the first behaviour of row b
    history_of: Tensor | None  # [B]: history of each row; None if row i has history i

    @cached_property
    def row(self) -> Tensor:
        """The row of each pair [P]."""
        return torch.repeat_interleave(self.offsets.diff())

    @cached_property
    def position(self) -> Tensor:
        """The behaviour of each pair [P], as an index into the behaviours."""
        position = torch.arange(len(self.row), device=self.row.device)
        if self.history_of is None:
            return position
        return position + (self.start - self.offsets[:-1])[self.row]

    def repeat_rows(self, values: Tensor) -> Tensor:
        """Repeat the value of each row for its pairs: [B, d] -> [P, d]."""
        return _RepeatRows.apply(values, self.row, self.offsets)

    def gather_behaviours(self, values: Tensor) -> Tensor:
        """Take the value of each pair's behaviour: [N, d] -> [P, d]."""
        return values if self.history_of is None else values[self.position]

    @cached_property
    def group_size(self) -> float:
        """Adjacent rows with one history, on average."""
        if self.history_of is None:
            return 1.0
        return len(self.history_of) / (1 + int((self.history_of.diff() != 0).sum()))

    def parts(self, most: int) -> Iterator[tuple[slice, slice, "Pairs"]]:
        """Yield (rows, behaviours, pairs) of parts of about ``most`` pairs, of whole rows."""
        total, rows = int(self.offsets[-1]), len(self.start)
        ends = torch.arange(most, max(total, most), most, device=self.offsets.device)
        cuts = torch.searchsorted(self.offsets, ends)
        for first, end in pairwise(sorted({0, *cuts.tolist(), rows})):
            offsets, start = self.offsets[first : end + 1], self.start[first:end]
            own = slice(int(offsets[0]), int(offsets[-1]))
            part = Pairs(offsets - offsets[0], start, None)
            if self.history_of is not None:
                own, part = slice(None), replace(part, history_of=self.history_of[first:end])
            yield slice(first, end), own, part

    def groups(self) -> Iterator[tuple[slice, slice]]:
        """Yield (rows, behaviours) of each group of adjacent rows with one history."""
        assert self.history_of is not None
        _, counts = torch.unique_consecutive(self.history_of, return_counts=True)
        ends = counts.cumsum(0)
        starts, lengths = self.start[ends - 1].tolist(), self.offsets.diff()[ends - 1].tolist()
        row = 0
        for end, start, length in zip(ends.tolist(), starts, lengths, strict=True):
            yield slice(row, end), slice(start, start + length)
            row = end


class _RepeatRows(torch.autograd.Function):
    """Indexing by ordered rows; its derivative is a sum over segments instead of a scatter."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, row: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(offsets)
        return values.index_select(0, row)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return segment_reduce(gradient, ctx.saved_tensors[0]), None, None


def segment_reduce(values: Tensor, offsets: Tensor, mode: str = "sum") -> Tensor:
    """Sum (or ``mean``) each segment of rows: [P, d] -> [B, d]; zero for an empty segment."""
    indices = torch.arange(values.shape[0], device=values.device)
    return F.embedding_bag(indices, values, offsets, mode=mode, include_last_offset=True)


def pairs_of(histories: Histories, history_of: Tensor | None) -> Pairs:
    """Pair each row with the behaviours of its history."""
    start, lengths = histories.offsets[:-1], histories.offsets.diff()
    if history_of is not None:
        start, lengths = start[history_of], lengths[history_of]
    return Pairs(F.pad(lengths.cumsum(0), (1, 0)), start, history_of)


def segment_softmax(scores: Tensor, pairs: Pairs) -> Tensor:
    """Softmax over the pairs of each row: [P] -> [P], or K softmaxes at once: [P, K] -> [P, K]."""
    shape = (pairs.offsets.shape[0] - 1, *scores.shape[1:])
    row = pairs.row.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    maximum = scores.new_full(shape, -torch.inf)
    maximum = maximum.scatter_reduce(0, row, scores.detach(), "amax")
    exponentials = torch.exp(scores - maximum[pairs.row])
    return exponentials / scores.new_zeros(shape).index_add(0, pairs.row, exponentials)[pairs.row]


class _WeightedSum(torch.autograd.Function):
    """Sum of weight * behaviour over the pairs of each row."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, weights: Tensor, row: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(keys, weights, row)
        return segment_reduce(keys * weights[:, None], offsets)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        keys, weights, row = ctx.saved_tensors
        d_pair = gradient.index_select(0, row)
        return d_pair * weights[:, None], (d_pair * keys).sum(1), None, None


def weighted_sum(keys: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
    """Sum weight * key over the pairs of each row: [P, d], [P] -> [B, d]; zero without pairs."""
    return _WeightedSum.apply(keys, weights, pairs.row, pairs.offsets)


def segment_starts(ascending: Tensor) -> Tensor:
    """Return where each segment of equal numbers begins [segments], for ascending numbers [n]."""
    return F.pad(ascending.diff() != 0, (1, 0), value=True)[: len(ascending)].nonzero()[:, 0]
