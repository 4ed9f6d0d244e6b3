"""The parts DIN is made of, over ragged histories: Dice, the activation unit, pooling, MLP."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.batch import Histories
from din_model.distributed import sum_over_ranks
from din_model.features import AGE_BUCKETS


class Pairs(NamedTuple):
    """Every (row, behaviour) pair of a batch, rows in order.

    Where all of a user's candidates share a history, its positions occur once a candidate.
    """

    row: Tensor  # [P]: the row of the pair
    position: Tensor  # [P]: the behaviour, an index into the history's values
    offsets: Tensor  # [B + 1]: pairs of row b are offsets[b] to offsets[b + 1]


def pairs_of(histories: Histories, history_of: Tensor | None) -> Pairs:
    """Pair each row with the behaviours of its own history."""
    start, lengths = histories.offsets[:-1], histories.offsets.diff()
    if history_of is not None:
        start, lengths = start[history_of], lengths[history_of]
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    row = torch.repeat_interleave(lengths)
    position = torch.arange(len(row), device=row.device)
    if history_of is not None:
        position = position + (start - offsets[:-1])[row]
    return Pairs(row, position, offsets)


class Dice(nn.Module):
    """Data adaptive activation (arXiv 1706.06978, section 5.2), eps 1e-8 as there.

    In training, mean and variance are those of all real positions of the *global* batch: padding
    does not exist, and ranks add up their sums. So a batch split over ranks, however unevenly,
    trains like the whole. Scoring uses running averages of the same statistics.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, size: int, eps: float = 1e-8, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("steps", torch.zeros(()))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.alpha)
        nn.init.zeros_(self.mean)
        nn.init.ones_(self.variance)
        nn.init.zeros_(self.steps)

    def forward(self, x: Tensor) -> Tensor:
        """[positions, size] -> [positions, size]."""
        mean, variance = self.mean, self.variance
        if self.training:
            count = sum_over_ranks(x.new_tensor([len(x)]))
            if count > 0:
                mean = sum_over_ranks(x.sum(0)) / count
                variance = sum_over_ranks((x - mean).square().sum(0)) / count
                self._remember(mean, variance)
        gate = torch.sigmoid((x - mean) * torch.rsqrt(variance + self.eps))
        return x * (self.alpha + (1 - self.alpha) * gate)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        # An average of all steps at first, so that a short training is not tied to its start.
        self.steps += 1
        share = max(self.momentum, 1 / float(self.steps))
        self.mean.lerp_(mean.detach(), share)
        self.variance.lerp_(variance.detach(), share)


def activation(name: str, size: int) -> nn.Module:
    """An activation by its configured name."""
    if name == "dice":
        return Dice(size)
    return {"prelu": nn.PReLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}[name]()


class MLP(nn.Sequential):
    """Linear layers of the given sizes, each followed by the activation, then one number a row."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], act: str) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(inputs, size), activation(act, size)]
            inputs = size
        super().__init__(*layers, nn.Linear(inputs, 1))


class ActivationUnit(nn.Module):
    """How much each behaviour matters for the candidate: MLP over [q, k, q - k, q * k].

    The first layer is linear in its four blocks, so it is computed in three parts, which is exact:
    W [q; k; q - k; q * k] = (Wq + Wd) q + (Wk - Wd) k + Wp (q * k). The first is done once a row,
    the second once a behaviour; no 4d-wide tensor is ever built. The age of a behaviour, where it
    is told, is added there: a vector of its bucket's own, as if it were one-hot among the inputs.
    """

    def __init__(self, dimension: int, sizes: tuple[int, ...], act: str, age: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dimension, sizes[0])
        self.of_age = nn.Embedding(AGE_BUCKETS, sizes[0]) if age else None
        self.act = activation(act, sizes[0])
        self.rest = MLP(sizes[0], sizes[1:], act)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> Tensor:
        """query [B, d], keys [N, d], age [N] (buckets) -> score of each pair [P]."""
        to_q, to_k, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        by_row = F.linear(query, to_q + to_difference, self.first.bias)  # [B, H]
        by_key = F.linear(keys, to_k - to_difference)  # [N, H]
        if self.of_age is not None:
            by_key = by_key + self.of_age(age)
        products = query[pairs.row] * keys[pairs.position]  # [P, d]
        hidden = by_row[pairs.row] + by_key[pairs.position] + F.linear(products, to_product)
        return self.rest(self.act(hidden)).squeeze(1)


def softmax_within(scores: Tensor, pairs: Pairs) -> Tensor:
    """Softmax over the pairs of each row: [P] -> [P]. A row without pairs has nothing to sum."""
    rows = len(pairs.offsets) - 1
    top = scores.new_full((rows,), -torch.inf)
    top = top.scatter_reduce(0, pairs.row, scores.detach(), "amax")
    raised = torch.exp(scores - top[pairs.row])
    return raised / scores.new_zeros(rows).index_add(0, pairs.row, raised)[pairs.row]


def weighted_sum(keys: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
    """Sum of weight * key over the pairs of each row: [N, d], [P] -> [B, d]; zero for none."""
    return F.embedding_bag(
        pairs.position, keys, pairs.offsets, mode="sum",
        per_sample_weights=weights, include_last_offset=True,
    )  # fmt: skip


class AttentivePooling(nn.Module):
    """The interest of DIN: behaviours weighed by the candidate at hand (section 4.3).

    ``softmax`` normalises the weights over a history; the paper does not, to keep the strength of
    an interest.
    """

    def __init__(
        self, dimension: int, sizes: tuple[int, ...], act: str, softmax: bool, age: bool = False
    ) -> None:
        super().__init__()
        self.unit = ActivationUnit(dimension, sizes, act, age)
        self.softmax = softmax

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """query [B, d], keys [N, d], age [N] -> interest [B, d] and the weights [P]."""
        scores = self.unit(query, keys, pairs, age)
        weights = softmax_within(scores, pairs) if self.softmax else scores
        return weighted_sum(keys, weights, pairs), weights


class MeanPooling(nn.Module):
    """Embedding & MLP's user vector: the mean of the behaviours, whatever the candidate."""

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """query [B, d], keys [N, d] -> interest [B, d] and the weights [P]; ages weigh alike."""
        weights = 1 / pairs.offsets.diff().to(keys.dtype)[pairs.row]
        return weighted_sum(keys, weights, pairs), weights
