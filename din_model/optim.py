"""Two optimizers: torch's own for the dense part, and one that updates the touched rows alone."""

import torch
from torch import Tensor

from din_model.distributed import gather, world
from din_model.embeddings import EmbeddingTables


class RowAdam:
    """Adam (arXiv 1412.6980) whose moments and step count are kept, and move, row by row.

    A row has one second moment, the mean over its numbers: half the state to fetch and keep, and
    no worse a model (docs/architecture.md, section 8).

    Mini-batch aware regularisation (arXiv 1706.06978, equation 6) joins the gradient: row j gets
    ``regularisation * w_j / n_j`` in each step whose global batch holds it.
    """

    def __init__(
        self,
        tables: EmbeddingTables,
        lr: float,
        examples: dict[str, Tensor],
        regularisation: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """``examples``: vocabulary -> n_j, how many training examples hold each row [rows]."""
        self.tables, self.lr, self.betas, self.eps = tables, lr, betas, eps
        self.regularisation, self.examples = regularisation, examples
        # Of each row [rows, 2 d + 2]: its weights, first moment, second moment and step count. They
        # lie together, since what a row costs is the trips to memory that no cache holds.
        self.state = {
            table: tables.widen(table, tables.weight(table).shape[1] + 2) for table in tables.names
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows that the last batch touched, on every rank alike."""
        b1, b2 = self.betas
        for touched in self.tables.touched:
            rows, gradient = _over_ranks(touched.rows, touched.leaf.grad)
            state = self.state[touched.table]
            mine = state.index_select(0, rows)
            width = gradient.shape[1]
            weight, m, v, t = mine.split([width, width, 1, 1], 1)
            if self.regularisation and touched.table in self.tables.vocabulary:
                n = self.examples[self.tables.vocabulary[touched.table]].index_select(0, rows)
                gradient = gradient.addcdiv(
                    weight, n.clamp(min=1)[:, None], value=self.regularisation
                )
            m.lerp_(gradient, 1 - b1)
            v.lerp_(gradient.square().mean(1, keepdim=True), 1 - b2)
            t.add_(1)
            rate = self.lr / (1 - b1**t) / ((v / (1 - b2**t)).sqrt_() + self.eps)
            weight.addcmul_(m, rate, value=-1)
            state.index_copy_(0, rows, mine)
        self.tables.touched = []


def _over_ranks(rows: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """The distinct rows that any rank touched, and the sum over ranks of their gradients."""
    assert gradient is not None
    if world() == 1:
        return rows, gradient
    rows, gradient = gather(rows), gather(gradient)
    distinct, inverse = torch.unique(rows, return_inverse=True)
    summed = gradient.new_zeros(len(distinct), gradient.shape[1]).index_add_(0, inverse, gradient)
    return distinct, summed
