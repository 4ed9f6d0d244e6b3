"""Row-wise optimizers update the touched rows of the tables; torch's own update the dense layers.

A rule changes the weights w [U, d] and the state of rows in place, given their gradient g [U, d]
and the learning rate. A row has one second moment, the mean over its numbers: half the state to
read and store, and no worse a model (docs/architecture.md, section 8).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.distributed.collectives import (
    all_gather_jagged,
    allocate_shared,
    rank,
    shared_barrier,
    world_size,
)
from din_model.modules.embeddings import EmbeddingTables
from din_model.modules.segments import segment_starts

EPS = 1e-8
BETAS = 0.9, 0.999

RowRule = Literal["adam", "adagrad", "sgd"]


def _adam(w: Tensor, g: Tensor, state: Tensor, rate: float) -> None:
    """Adam (arXiv 1412.6980); moments and step count of a row change only when touched."""
    m, v, t = state.split([w.shape[1], 1, 1], 1)
    m.lerp_(g, 1 - BETAS[0])
    v.lerp_(g.square().mean(1, keepdim=True), 1 - BETAS[1])
    t.add_(1)
    step = rate / (1 - BETAS[0] ** t) / ((v / (1 - BETAS[1] ** t)).sqrt_() + EPS)
    w.addcmul_(m, step, value=-1)


def _adagrad(w: Tensor, g: Tensor, state: Tensor, rate: float) -> None:
    """Adagrad (JMLR 12, 2121) with one sum of squares per row."""
    state.add_(g.square().mean(1, keepdim=True))
    w.addcdiv_(g, state.sqrt().add_(EPS), value=-rate)


def _sgd(w: Tensor, g: Tensor, _state: Tensor, rate: float) -> None:
    w.add_(g, alpha=-rate)


class _Rule(NamedTuple):
    update: Callable[[Tensor, Tensor, Tensor, float], None]
    columns: Callable[[int], int]
    """Width d of a row -> numbers of state per row."""


RULES: dict[RowRule, _Rule] = {
    "adam": _Rule(_adam, lambda width: width + 2),
    "adagrad": _Rule(_adagrad, lambda _: 1),
    "sgd": _Rule(_sgd, lambda _: 0),
}


class RowOptimizer:
    """Updates the rows that the last batch touched, equally on every rank.

    Adds mini-batch aware regularisation (arXiv 1706.06978, equation 6) to the gradient: row j gets
    ``regularisation * w_j / n_j`` in each step whose global batch holds it.
    """

    def __init__(
        self,
        tables: EmbeddingTables,
        lr: float,
        examples: dict[str, Tensor],
        regularisation: float = 0.0,
        rule: RowRule = "adam",
    ) -> None:
        """``examples``: vocabulary -> n_j, the number of training examples with each row."""
        self.tables, self.lr, self.rule = tables, lr, RULES[rule]
        self.regularisation, self.examples = regularisation, examples
        # The state of a row lies behind its weights, because a row costs one cache miss each way.
        # Ranks of one machine share the memory.
        self.rows: dict[str, Tensor] = {}
        self.shared: set[str] = set()
        for table in tables.sizes:
            rows, width = tables.weight(table).shape
            shape = rows, width + self.rule.columns(width)
            memory = allocate_shared(shape)
            if memory is None:
                memory = tables.weight(table).new_zeros(shape)
            else:
                self.shared.add(table)
            tables.move(table, memory)
            self.rows[table] = memory

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows that any rank touched, then clear the list of touched rows."""
        for table, rows, gradient in self._touched():
            memory, width = self.rows[table], gradient.shape[1]
            updated = memory.index_select(0, rows)
            weight, state = updated[:, :width], updated[:, width:]
            if self.regularisation and table in self.tables.vocabulary:
                n = self.examples[self.tables.vocabulary[table]].index_select(0, rows)
                gradient = gradient.addcdiv(
                    weight, n.clamp(min=1)[:, None], value=self.regularisation
                )
            self.rule.update(weight, gradient, state, self.lr)
            memory.index_copy_(0, rows, updated)
        self.tables.touched = []
        shared_barrier()

    def _touched(self) -> list[tuple[str, Tensor, Tensor]]:
        """Return per table the touched rows of all ranks, distinct, with summed gradients.

        For a shared table, return this rank's partition of the rows.
        """
        touched = self.tables.touched
        names, rows = [t.table for t in touched], [t.rows for t in touched]
        gradients = [t.leaf.grad for t in touched if t.leaf.grad is not None]
        if world_size() == 1:
            return list(zip(names, rows, gradients, strict=True))
        parts, updates = all_gather_jagged(rows + gradients), []
        for name, *of_ranks in zip(names, parts, parts[len(names) :], strict=False):
            if name in self.shared:
                shares = row_partition(of_ranks[0], len(self.rows[name]), rank(), world_size())
                of_ranks = [[part[n] for part, n in zip(p, shares, strict=True)] for p in of_ranks]
            updates.append((name, *_summed(*map(torch.cat, of_ranks))))
        return updates


def row_partition(rows: list[Tensor], size: int, number: int, of: int) -> list[slice]:
    """Return which of each rank's rows ([U], ascending, below ``size``) rank ``number`` updates.

    Partitions are disjoint. The edges are the means of the ranks' quantiles, so all partitions have
    about equal rows, whatever the distribution of the ids.
    """
    non_empty = [r for r in rows if len(r)]

    def edge(n: int) -> int:
        if n in (0, of):
            return size * n // of
        return sum(int(r[len(r) * n // of]) for r in non_empty) // max(len(non_empty), 1)

    edges = torch.tensor([edge(number), edge(number + 1)])
    return [slice(*torch.searchsorted(r, edges).tolist()) for r in rows]


def _summed(rows: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows, ascending, and their summed gradients, added in rank order."""
    if rows.is_cuda:
        order = torch.argsort(rows, stable=True)
    else:  # numpy's stable sort merges ascending lists, in a seventh of the time
        order = torch.from_numpy(np.argsort(rows.numpy(), kind="stable"))
    ascending = rows.index_select(0, order)
    starts = segment_starts(ascending)
    sums = F.embedding_bag(order, gradients, starts, mode="sum")
    return ascending.index_select(0, starts), sums
