"""Two optimizers: torch's own for the dense part, and one that updates the touched rows alone."""

import torch
from torch import Tensor

from din_model.distributed import gather, world
from din_model.embeddings import EmbeddingTables


class RowAdam:
    """Adam (arXiv 1412.6980) whose moments and step count are kept, and move, row by row.

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
        self.state = {
            table: (
                torch.zeros_like(tables.weight(table)),
                torch.zeros_like(tables.weight(table)),
                tables.weight(table).new_zeros(len(tables.weight(table)), 1),
            )
            for table in tables.names
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows that the last batch touched, on every rank alike."""
        b1, b2 = self.betas
        for touched in self.tables.touched:
            rows, gradient = _over_ranks(touched.rows, touched.leaf.grad)
            weight = self.tables.weight(touched.table)
            if self.regularisation and touched.table in self.tables.vocabulary:
                n = self.examples[self.tables.vocabulary[touched.table]][rows].clamp(min=1)
                gradient = gradient + self.regularisation * weight[rows] / n[:, None]
            first, second, steps = self.state[touched.table]
            t = steps[rows] + 1
            m = first[rows].lerp_(gradient, 1 - b1)
            v = second[rows].lerp_(gradient.square(), 1 - b2)
            first[rows], second[rows], steps[rows] = m, v, t
            v_hat = v / (1 - b2**t)
            weight[rows] -= self.lr * (m / (1 - b1**t)) / (v_hat.sqrt_() + self.eps)
        self.tables.touched = []


def _over_ranks(rows: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """The distinct rows that any rank touched, and the mean over ranks of their gradients."""
    assert gradient is not None
    if world() == 1:
        return rows, gradient
    rows, gradient = gather(rows), gather(gradient)
    distinct, inverse = torch.unique(rows, return_inverse=True)
    summed = gradient.new_zeros(len(distinct), gradient.shape[1]).index_add_(0, inverse, gradient)
    return distinct, summed / world()
