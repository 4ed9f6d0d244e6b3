"""Interest encoders: how a user's behaviours become the interest that meets a candidate.

Each is called with (query [B, d], keys [N, d], pairs, age [N]) and returns the interest [B, d] and
the weight of each pair [P]; the interest is the weighted sum of the behaviours, and zero for none.
All else in the model is equal between them.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.features import AGE_BUCKETS
from din_model.modules.layers import MLP, activation
from din_model.modules.segments import Pairs, segment_reduce, segment_softmax, weighted_sum

AT_ONCE = 1 << 19
"""Numbers of the first hidden layer that are made at a time: they stay in the caches."""


class _Meeting(torch.autograd.Function):
    """start += W [k; q * k] of each pair, with its derivative written out: one product each way."""

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, query: Tensor, keys: Tensor, weight: Tensor,
        row: Tensor, offsets: Tensor,
    ) -> Tensor:  # fmt: skip
        """Start [P, H], query [B, d], keys [P, d], weight [H, 2d] -> [P, H]."""
        width = keys.shape[1]
        both = keys.new_empty(keys.shape[0], 2 * width)
        both[:, :width] = keys
        torch.mul(query.index_select(0, row), keys, out=both[:, width:])
        ctx.save_for_backward(both, query, weight, row, offsets)
        ctx.mark_dirty(start)
        return start.addmm_(both, weight.t())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        both, query, weight, row, offsets = ctx.saved_tensors
        of_key, of_product = (gradient @ weight).chunk(2, 1)
        of_query = segment_reduce(of_product * both.chunk(2, 1)[0], offsets)
        of_key = torch.addcmul(of_key, of_product, query.index_select(0, row))
        return gradient, of_query, of_key, gradient.t() @ both, None, None


class ActivationUnit(nn.Module):
    """How much each behaviour matters for the candidate: MLP over [q, k, q - k, q * k].

    The first layer is linear in its four blocks, so it is computed in two parts, which is exact:
    W [q; k; q - k; q * k] = (Wq + Wd) q + [Wk - Wd, Wp] [k; q * k]. The first is done once a row;
    no 4d-wide tensor is ever built. The age of a behaviour, where it is told, is added there: a
    vector of its bucket's own, as if it were one-hot among the inputs.

    Attributes:
        low_precision: whether training computes in bfloat16 here. Weights, the sums of Dice and the
            scores are float32 all the same, and so is all of evaluation.
    """

    def __init__(self, dimension: int, sizes: tuple[int, ...], act: str, age: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dimension, sizes[0])
        self.of_age = nn.Embedding(AGE_BUCKETS, sizes[0]) if age else None
        self.act = activation(act, sizes[0])
        self.low_precision = False
        self.rest = MLP(sizes[0], sizes[1:], act)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> Tensor:
        """Query [B, d], keys [P, d], age [P] (buckets) -> score of each pair [P]."""
        to_q, to_k, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        of_query = F.linear(query, to_q + to_difference, self.first.bias)  # [B, H]
        weight = torch.cat([to_k - to_difference, to_product], 1)
        low = self.low_precision and self.training
        if low:
            of_query, query, keys, weight = (t.bfloat16() for t in (of_query, query, keys, weight))
        start = pairs.of_row(of_query)  # [P, H]
        if self.of_age is not None:
            start = start + self.of_age(age).to(start.dtype)
        hidden = self.act(_Meeting.apply(start, query, keys, weight, pairs.row, pairs.offsets))
        with torch.autocast(hidden.device.type, torch.bfloat16) if low else nullcontext():
            scores = self.rest(hidden).squeeze(1)
        return scores.float() if low else scores

    def precompute_history(self, keys: Tensor, age: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first layer as one history makes it: keys [L, d] -> ([d, L * H], [L * H]).

        Given the behaviours, it is linear in the candidate. So all that a history adds is computed
        once, and a candidate costs one product.
        """
        to_q, to_k, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        through = torch.addcmul(
            (to_q + to_difference).t()[:, None], keys.t()[:, :, None], to_product.t()[:, None]
        )
        shift = F.linear(keys, to_k - to_difference, self.first.bias)
        if self.of_age is not None:
            shift = shift + self.of_age(age)
        return through.flatten(1), shift.flatten()

    def score_candidates(self, query: Tensor, precomputed: tuple[Tensor, Tensor]) -> Tensor:
        """Query [C, d], what ``precompute_history`` made of a history -> scores [C, L]."""
        through, shift = precomputed
        hidden = torch.addmm(shift, query, through).view(-1, self.first.out_features)
        return self.rest(self.act(hidden)).view(len(query), -1)


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
        """Query [B, d], keys [N, d], age [N] -> interest [B, d] and the weights [P]."""
        if pairs.many:
            return self._by_history(query, keys, pairs, age)
        keys = pairs.of_behaviour(keys)
        age = None if age is None else pairs.of_behaviour(age)
        scores = self.unit(query, keys, pairs, age)
        weights = segment_softmax(scores, pairs) if self.softmax else scores
        return weighted_sum(keys, weights, pairs), weights

    def _by_history(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same, a history at a time: no behaviour is copied for each of its candidates."""
        interests, weights = [query[:0]], [query[:0, 0]]
        for rows, behaviours in pairs.runs():
            mine = keys[behaviours]
            if not len(mine):
                interests.append(torch.zeros_like(query[rows]))
                continue
            precomputed = self.unit.precompute_history(
                mine, None if age is None else age[behaviours]
            )
            asking = query[rows]
            parts = -(-asking.shape[0] * precomputed[1].shape[0] // AT_ONCE)
            for part in asking.tensor_split(parts):
                scores = self.unit.score_candidates(part, precomputed)
                weight = torch.softmax(scores, 1) if self.softmax else scores
                interests.append(weight @ mine)
                weights.append(weight.flatten())
        return torch.cat(interests), torch.cat(weights)


class MeanPooling(nn.Module):
    """Embedding & MLP's user vector: the mean of the behaviours, whatever the candidate."""

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Query [B, d], keys [N, d] -> interest [B, d] and the weights [P]; ages weigh alike."""
        keys = pairs.of_behaviour(keys)
        weights = 1 / pairs.offsets.diff().to(keys.dtype)[pairs.row]
        return weighted_sum(keys, weights, pairs), weights


class PersonaPooling(nn.Module):
    """A few user vectors that attend to the history, mixed by the candidate.

    As in Attentive Multi-Persona Collaborative Filtering (arXiv 2010.07042): a persona is a sum of
    the behaviours whose weights do not know the candidate; the candidate then weighs the personas
    by how well they match it. In between: more than one fixed vector, fewer than DIN's.
    """

    def __init__(self, dimension: int, personas: int) -> None:
        super().__init__()
        self.attention = nn.Linear(dimension, personas, bias=False)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Query [B, d], keys [N, d] -> interest [B, d] and the weights [P]; ages are not read."""
        keys = pairs.of_behaviour(keys)
        of_persona = segment_softmax(self.attention(keys), pairs)  # [P, K]
        match = (pairs.of_row(query) * keys).sum(1, keepdim=True)  # [P, 1]
        rows, personas = query.shape[0], of_persona.shape[1]
        affinity = match.new_zeros(rows, personas).index_add(0, pairs.row, of_persona * match)
        mixed = torch.softmax(affinity / query.shape[1] ** 0.5, 1)  # [B, K]
        weights = (of_persona * mixed[pairs.row]).sum(1)
        return weighted_sum(keys, weights, pairs), weights
