"""Embedding tables whose training cost depends on the rows in the batch, not on the vocabulary.

Tables are buffers instead of parameters, so autograd never sees a whole table. A training batch
looks each distinct row up once, through a leaf tensor, and din_model.training.rowwise_optimizers
updates those rows.
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
"""Rows drawn or read at a time when a whole table is traversed."""


@dataclass(frozen=True)
class Touched:
    """The distinct rows of a table that a batch read, with the gradient after backward."""

    table: str
    rows: Tensor  # [U] int64, ascending
    leaf: Tensor  # [U, d]: holds the gradient only; its values are unused


class Segments(NamedTuple):
    """The lookups of a table, sorted by row: those of segment u all read ``rows[u]``."""

    rows: Tensor  # [U]: distinct, ascending
    order: Tensor  # [n]: indices of the lookups, segment by segment
    starts: Tensor  # [U]: start of each segment in ``order``

    def inverse(self) -> Tensor:
        """Return the index into ``rows`` that each lookup reads [n]."""
        segment = torch.zeros(len(self.order), dtype=torch.int64, device=self.order.device)
        segment[self.starts[1:]] = 1
        return torch.empty_like(segment).index_copy_(0, self.order, segment.cumsum(0))


def segments_of(rows: list[Tensor], sizes: list[int]) -> list[Segments]:
    """Return the segments of each table's lookups (rows [n], below the table's size).

    All tables are sorted together: torch sorts long integer lists by radix, which takes a third of
    the time of several shorter sorts.
    """
    bases = list(accumulate(sizes, initial=0))
    ascending, order = torch.sort(
        torch.cat([r + base for r, base in zip(rows, bases, strict=False)]), stable=True
    )
    starts = segment_starts(ascending)
    distinct = ascending.index_select(0, starts)
    edges = torch.searchsorted(distinct, distinct.new_tensor(bases)).tolist()
    firsts, segments = accumulate(map(len, rows), initial=0), []
    for first_lookup, r, base, (first_segment, last_segment) in zip(
        firsts, rows, bases, pairwise(edges), strict=False
    ):
        span = slice(first_segment, last_segment)
        own_order = order[first_lookup : first_lookup + len(r)] - first_lookup
        segments.append(Segments(distinct[span] - base, own_order, starts[span] - first_lookup))
    return segments


class _Lookup(torch.autograd.Function):
    """Rows of a table; the gradient goes to the distinct rows, as sums over sorted segments."""

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
    """One table per vocabulary, one of width 1 for the item bias, one for hashed crosses.

    ``id_to_row(vocabulary)[id]`` is the row that an id reads. Ids too rare in training, and ids
    newer than the model, read the unknown row, which the rare ids train.

    Attributes:
        sizes: table -> (rows, d), over all ranks.
        touched: the rows that the last training batch read, per table.
        shards: holder of the tables if they are sharded over the ranks (``hold_shards``).
    """

    def __init__(
        self, spec: FeatureSpec, id_to_row: dict[str, Tensor], item_bias: bool, wide: int = 0
    ) -> None:
        super().__init__()
        self.vocabulary = {name: name for name in spec.dimensions}
        dimensions = dict(spec.dimensions)
        if item_bias:
            self.vocabulary[ITEM_BIAS] = spec[spec.item].vocabulary
            dimensions[ITEM_BIAS] = 1
        self.sizes = {
            name: (int(id_to_row[self.vocabulary[name]].max()) + 1, dimension)
            for name, dimension in dimensions.items()
        }
        self.sizes |= {WIDE: (wide, 1)} if wide else {}
        for name in spec.dimensions:
            self.register_buffer(f"{name}__row_of", id_to_row[name])
        for name, (rows, dimension) in self.sizes.items():
            self.register_buffer(f"{name}__weight", torch.empty(rows, dimension))
        self.first = dict.fromkeys(self.sizes, 0)
        self.touched: list[Touched] = []
        self.shards: Shards | None = None

    def weight(self, table: str) -> Tensor:
        """Return this rank's part of a table: rows ``first[table]`` and following [n, d]."""
        return self.get_buffer(f"{table}__weight")

    def hold_shards(self, shards: "Shards") -> None:
        """Hold only this rank's rows of each table."""
        self.shards = shards
        for table in self.sizes:
            shard = shards.shard(table)
            self.first[table] = shard.first
            self.register_buffer(f"{table}__weight", shard.weight)

    def move(self, table: str, memory: Tensor) -> None:
        """Move the table's weights into the first columns of ``memory`` [rows, d or more].

        The columns behind them belong to the optimizer.
        """
        weight = self.weight(table)
        self.register_buffer(f"{table}__weight", memory[:, : weight.shape[1]].copy_(weight))

    def id_to_row(self, vocabulary: str) -> Tensor:
        """Return the row of each id [ids]."""
        return self.get_buffer(f"{vocabulary}__row_of")

    def reset_parameters(self, std: float) -> None:
        """Draw all rows in order, in pieces, so that the result does not depend on the sharding."""
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

        In training, ``touched`` then lists what was read, unless the tables are sharded.
        """
        if not self.training and self.shards is None:
            return [F.embedding(self.rows(t, ids), self.weight(t)) for t, ids in requests]
        by_table: dict[str, list[int]] = {}
        for i, (table, _) in enumerate(requests):
            by_table.setdefault(table, []).append(i)
        rows = {
            table: self.rows(table, torch.cat([requests[i][1] for i in indices]))
            for table, indices in by_table.items()
        }
        lookup = self._lookup_sharded if self.shards else self._lookup_touched
        embeddings = [torch.empty(0)] * len(requests)
        for table, values in lookup(rows).items():
            lengths = [len(requests[i][1]) for i in by_table[table]]
            for i, part in zip(by_table[table], values.split(lengths), strict=True):
                embeddings[i] = part
        return embeddings

    def _lookup_touched(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Look rows [n] up in the tables of this rank, and list the distinct ones as touched."""
        self.touched, values = [], {}
        for (table, read), segments in zip(rows.items(), self._segments(rows), strict=True):
            weight = self.weight(table)
            leaf = weight.new_empty(len(segments.rows), weight.shape[1]).requires_grad_()
            self.touched.append(Touched(table, segments.rows, leaf))
            values[table] = _Lookup.apply(leaf, weight, read, segments.order, segments.starts)
        return values

    def _lookup_sharded(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fetch the distinct rows from the ranks that hold them; gradients return the same way."""
        assert self.shards is not None
        segments = dict(zip(rows, self._segments(rows), strict=True))
        fetched = self.shards.fetch({table: s.rows for table, s in segments.items()})
        return {
            table: _Lookup.apply(
                fetched[table], fetched[table].detach(), s.inverse(), s.order, s.starts
            )
            for table, s in segments.items()
        }

    def _segments(self, rows: dict[str, Tensor]) -> list[Segments]:
        return segments_of(list(rows.values()), [self.sizes[table][0] for table in rows])

    @torch.no_grad()
    def pieces(self, table: str, wanted: bool = True) -> Iterator[Tensor]:
        """Yield all rows of a table in order, in pieces; empty pieces on ranks that want none.

        If the tables are sharded, every rank must take part.
        """
        for start in range(0, self.sizes[table][0], PIECE):
            if self.shards is None:
                yield self.weight(table)[start : start + PIECE]
                continue
            stop = min(start + PIECE, self.sizes[table][0]) if wanted else start
            rows = torch.arange(start, stop, device=self.weight(table).device)
            yield self.shards.fetch({table: rows})[table]

    def rows(self, table: str, ids: Tensor) -> Tensor:
        """Return the rows that ids [n] read; a cross is its own row."""
        if table == WIDE:
            return ids
        id_to_row = self.id_to_row(self.vocabulary[table])
        known = torch.where(ids < len(id_to_row), ids, UNKNOWN)
        return id_to_row.index_select(0, known).long()


def assign_rows(examples: NDArray[Any], min_count: int, before: Tensor | None = None) -> Tensor:
    """Assign a row to every id that occurs often enough, in the order of ids.

    Args:
        examples: number of examples that hold each id, indexed by id.
        min_count: ids in fewer examples read the unknown row.
        before: rows of an earlier model, which are kept; new rows follow them.

    Returns:
        The row of each id [ids], int32.
    """
    id_to_row = np.full(max(len(examples), FIRST_ID), UNKNOWN, np.int32)
    id_to_row[PADDING] = PADDING
    next_row = FIRST_ID
    if before is not None:
        id_to_row = np.r_[before.numpy(), id_to_row[len(before) :]].astype(np.int32)
        next_row = int(before.max()) + 1
    frequent = np.flatnonzero(
        (examples >= max(min_count, 1)) & (id_to_row[: len(examples)] == UNKNOWN)
    )
    frequent = frequent[frequent >= FIRST_ID]
    id_to_row[frequent] = next_row + np.arange(len(frequent), dtype=np.int32)
    return torch.from_numpy(id_to_row)


def examples_of_rows(examples: NDArray[Any], id_to_row: Tensor) -> Tensor:
    """Sum the counts of ids that share a row: n_j of the regulariser [rows] float32."""
    rows = id_to_row.numpy()[: len(examples)]
    return torch.from_numpy(
        np.bincount(rows, examples, int(id_to_row.max()) + 1).astype(np.float32)
    )
