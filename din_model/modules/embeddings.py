"""Embedding tables whose training cost is that of the rows in the batch, not of the vocabulary.

The tables are buffers, not parameters: autograd never sees one whole. A training batch looks every
distinct row up once, as a leaf of its own; din_model.training.rowwise_optimizers updates those rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from din_model.features import FIRST_ID, PADDING, UNKNOWN, FeatureSpec
from din_model.modules.segments import segment_starts

if TYPE_CHECKING:
    from din_model.modules.sharded_embeddings import Shards

ITEM_BIAS, WIDE = "item_bias", "wide"

PIECE = 1 << 16
"""Rows that are drawn or read at a time, where a whole table is gone through."""


@dataclass(frozen=True)
class Touched:
    """The distinct rows of a table that a batch read: ``leaf.grad`` is theirs after backward."""

    table: str
    rows: Tensor  # [U] int64, ascending
    leaf: Tensor  # [U, d]: a place for the gradient; its own values mean nothing


class Segments(NamedTuple):
    """The rows that a table's lookups read, in order: those of run u all read ``rows[u]``."""

    rows: Tensor  # [U]: distinct, ascending
    order: Tensor  # [n]: the lookups, run by run
    starts: Tensor  # [U]: where each run begins in ``order``

    def places(self) -> Tensor:
        """Which of ``rows`` each lookup reads [n]."""
        n = len(self.order)
        run = torch.zeros(n, dtype=torch.int64, device=self.order.device)
        run[self.starts[1:]] = 1
        return torch.empty_like(run).index_copy_(0, self.order, run.cumsum(0))


def segments_of(rows: list[Tensor], sizes: list[int]) -> list[Segments]:
    """The runs of each table's lookups (rows [n], below the table's size).

    All tables are sorted together: torch sorts a long list of integers by radix, which takes a
    third of the time of sorting several shorter ones.
    """
    bases = list(accumulate(sizes, initial=0))
    ascending, order = torch.sort(
        torch.cat([r + base for r, base in zip(rows, bases, strict=False)]), stable=True
    )
    starts = segment_starts(ascending)
    distinct = ascending.index_select(0, starts)
    edges = torch.searchsorted(distinct, distinct.new_tensor(bases)).tolist()
    lows, found = accumulate(map(len, rows), initial=0), []
    for low, r, base, (first, last) in zip(lows, rows, bases, pairwise(edges), strict=False):
        run = slice(first, last)
        mine = order[low : low + len(r)] - low
        found.append(Segments(distinct[run] - base, mine, starts[run] - low))
    return found


class _Lookup(torch.autograd.Function):
    """Rows of a table, whose derivative goes to the distinct ones alone: sums over sorted runs."""

    @staticmethod
    def forward(
        ctx: Any, leaf: Tensor, weight: Tensor, rows: Tensor, order: Tensor, starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(order, starts)
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        order, starts = ctx.saved_tensors
        return F.embedding_bag(order, gradient, starts, mode="sum"), None, None, None, None


class EmbeddingTables(nn.Module):
    """One table a vocabulary, one of width 1 for the item bias, one for crosses (``wide`` rows).

    ``row_of[vocabulary][id]`` says which row an id reads. Ids seen too seldom in training, and ids
    newer than the model, read the unknown row, which is trained by the former.

    Attributes:
        sizes: table -> (rows, d), of all ranks together.
        touched: the rows that the last training batch read, a table each.
        shards: where the tables are sharded over the ranks (``hold_shards``), what holds them.
    """

    def __init__(
        self, spec: FeatureSpec, row_of: dict[str, Tensor], item_bias: bool, wide: int = 0
    ) -> None:
        super().__init__()
        self.vocabulary = {name: name for name in spec.dimensions}
        dimensions = dict(spec.dimensions)
        if item_bias:
            self.vocabulary[ITEM_BIAS] = spec[spec.item].vocabulary
            dimensions[ITEM_BIAS] = 1
        self.sizes = {
            name: (int(row_of[self.vocabulary[name]].max()) + 1, dimension)
            for name, dimension in dimensions.items()
        }
        self.sizes |= {WIDE: (wide, 1)} if wide else {}
        for name in spec.dimensions:
            self.register_buffer(f"{name}__row_of", row_of[name])
        for name, (rows, dimension) in self.sizes.items():
            self.register_buffer(f"{name}__weight", torch.empty(rows, dimension))
        self.first = dict.fromkeys(self.sizes, 0)
        self.touched: list[Touched] = []
        self.shards: Shards | None = None

    def weight(self, table: str) -> Tensor:
        """What is held here of the table: rows ``first[table]`` and following [n, d]."""
        return self.get_buffer(f"{table}__weight")

    def hold_shards(self, shards: "Shards") -> None:
        """Hold no more than this rank's rows of each table."""
        self.shards = shards
        for table in self.sizes:
            mine = shards.shard(table)
            self.first[table] = mine.first
            self.register_buffer(f"{table}__weight", mine.weight)

    def move(self, table: str, place: Tensor) -> None:
        """Keep the table's weights in the first columns of ``place`` [rows, d or more] from now on.

        What lies behind them is no part of the model.
        """
        weight = self.weight(table)
        self.register_buffer(f"{table}__weight", place[:, : weight.shape[1]].copy_(weight))

    def row_of(self, vocabulary: str) -> Tensor:
        """The row of each id [ids]."""
        return self.get_buffer(f"{vocabulary}__row_of")

    def reset_parameters(self, std: float) -> None:
        """Draw all rows in order, piece by piece: alike however they are sharded."""
        for table, (rows, width) in self.sizes.items():
            weight, first = self.weight(table), self.first[table]
            if table in (ITEM_BIAS, WIDE):
                nn.init.zeros_(weight)
                continue
            for start in range(0, rows, PIECE):
                drawn = weight.new_empty(min(PIECE, rows - start), width).normal_(std=std)
                low, high = max(start, first), min(start + len(drawn), first + len(weight))
                if low < high:
                    weight[low - first : high - first] = drawn[low - start : high - start]
            if first == PADDING and len(weight):
                weight[PADDING] = 0

    def forward(self, requests: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        """(table, ids [n]) -> embeddings [n, d], for each request.

        In training, ``touched`` then tells what was read, unless the tables are sharded.
        """
        if not self.training and self.shards is None:
            return [F.embedding(self.rows(t, ids), self.weight(t)) for t, ids in requests]
        of_table: dict[str, list[int]] = {}
        for i, (table, _) in enumerate(requests):
            of_table.setdefault(table, []).append(i)
        rows = [self.rows(t, torch.cat([requests[i][1] for i in n])) for t, n in of_table.items()]
        runs = dict(
            zip(of_table, segments_of(rows, [self.sizes[t][0] for t in of_table]), strict=True)
        )
        fetched = self.shards.fetch({t: run.rows for t, run in runs.items()}) if self.shards else {}
        self.touched, found = [], [torch.empty(0)] * len(requests)
        for (table, mine), read in zip(of_table.items(), rows, strict=True):
            run = runs[table]
            if table in fetched:
                leaf = fetched[table]
                parts = _Lookup.apply(leaf, leaf.detach(), run.places(), run.order, run.starts)
            else:
                weight = self.weight(table)
                leaf = weight.new_empty(len(run.rows), weight.shape[1]).requires_grad_()
                self.touched.append(Touched(table, run.rows, leaf))
                parts = _Lookup.apply(leaf, weight, read, run.order, run.starts)
            for i, part in zip(mine, parts.split([len(requests[i][1]) for i in mine]), strict=True):
                found[i] = part
        return found

    @torch.no_grad()
    def pieces(self, table: str, wanted: bool = True) -> Iterator[Tensor]:
        """All rows of a table in order, some at a time, where they are wanted (elsewhere none).

        Where the tables are sharded every rank takes part, wanted or not.
        """
        for start in range(0, self.sizes[table][0], PIECE):
            if self.shards is None:
                yield self.weight(table)[start : start + PIECE]
                continue
            stop = min(start + PIECE, self.sizes[table][0]) if wanted else start
            rows = torch.arange(start, stop, device=self.weight(table).device)
            yield self.shards.fetch({table: rows})[table]

    def rows(self, table: str, ids: Tensor) -> Tensor:
        """The rows that ids [n] read; a cross is its own row."""
        if table == WIDE:
            return ids
        row_of = self.row_of(self.vocabulary[table])
        known = torch.where(ids < len(row_of), ids, UNKNOWN)
        return row_of.index_select(0, known).long()


def assign_rows(examples: NDArray[Any], min_count: int, before: Tensor | None = None) -> Tensor:
    """Give a row to every id that occurs often enough, in the order of ids.

    Args:
        examples: how many examples hold each id, indexed by id.
        min_count: an id that fewer hold reads the unknown row.
        before: rows of an earlier model; they stay, and new rows come after them.

    Returns:
        row_of [ids] int32.
    """
    row_of = np.full(max(len(examples), FIRST_ID), UNKNOWN, np.int32)
    row_of[PADDING] = PADDING
    following = FIRST_ID
    if before is not None:
        row_of = np.r_[before.numpy(), row_of[len(before) :]].astype(np.int32)
        following = int(before.max()) + 1
    often = np.flatnonzero((examples >= max(min_count, 1)) & (row_of[: len(examples)] == UNKNOWN))
    often = often[often >= FIRST_ID]
    row_of[often] = following + np.arange(len(often), dtype=np.int32)
    return torch.from_numpy(row_of)


def examples_of_rows(examples: NDArray[Any], row_of: Tensor) -> Tensor:
    """Sum the counts of the ids that share a row: the n_j of the regulariser [rows] float32."""
    rows = row_of.numpy()[: len(examples)]
    return torch.from_numpy(np.bincount(rows, examples, int(row_of.max()) + 1).astype(np.float32))
