"""Interest encoders: how a user's behaviours become an interest vector for a candidate.

Each encoder takes (query [B, d], keys [N, d], pairs, age [N]) and returns the interest [B, d] and
the weight of each pair [P]. The interest is the weighted sum of the behaviours, and zero without
behaviours. Everything else in the model is equal between encoders.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.features import AGE_BUCKETS
from din_model.modules.layers import MLP, activation
from din_model.modules.segments import Pairs, segment_reduce, segment_softmax, weighted_sum

MAX_HIDDEN_ELEMENTS = 1 << 19
"""Elements of the first hidden layer scored at a time, so that they stay in the caches."""

MIN_SHARED, MIN_GROUP = 4, 64
"""Candidates per history, on average, from which the first layer reads each behaviour once, and
from which one history is scored at a time (``python -m benchmarks.paths`` measures both)."""


class _AddPairTerms(torch.autograd.Function):
    """start += W [k; q * k] for each pair, with a hand-written derivative: one product each way."""

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, query: Tensor, keys: Tensor, weight: Tensor,
        row: Tensor, offsets: Tensor,
    ) -> Tensor:  # fmt: skip
        """Start [P, H], query [B, d], keys [P, d], weight [H, 2d] -> [P, H]."""
        width = keys.shape[1]
        keys_and_products = keys.new_empty(keys.shape[0], 2 * width)
        keys_and_products[:, :width] = keys
        torch.mul(query.index_select(0, row), keys, out=keys_and_products[:, width:])
        ctx.save_for_backward(keys_and_products, query, weight, row, offsets)
        ctx.mark_dirty(start)
        return start.addmm_(keys_and_products, weight.t())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        keys_and_products, query, weight, row, offsets = ctx.saved_tensors
        d_keys, d_products = (gradient @ weight).chunk(2, 1)
        d_query = segment_reduce(d_products * keys_and_products.chunk(2, 1)[0], offsets)
        d_keys = torch.addcmul(d_keys, d_products, query.index_select(0, row))
        return gradient, d_query, d_keys, gradient.t() @ keys_and_products, None, None


class ActivationUnit(nn.Module):
    """How relevant each behaviour is to the candidate: an MLP over [q, k, q - k, q * k].

    The first layer is linear in its four blocks, so it is computed exactly in two parts: W [q; k; q
    - k; q * k] = (Wq + Wd) q + [Wk - Wd, Wp] [k; q * k]. The first part is computed once per row;
    no tensor of width 4d is built. The age of a behaviour adds a vector of its bucket, as a one-hot
    input would.

    Attributes:
        low_precision: compute in bfloat16 in training. Weights, Dice's sums and the scores stay
            float32, and so does evaluation.
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
        """Query [B, d], keys of the pairs [P, d], their age [P] (buckets) -> scores [P]."""
        to_q, to_k, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        query_term = F.linear(query, to_q + to_difference, self.first.bias)  # [B, H]
        weight = torch.cat([to_k - to_difference, to_product], 1)
        use_bfloat16 = self.low_precision and self.training
        if use_bfloat16:
            query_term, query, keys, weight = (
                t.bfloat16() for t in (query_term, query, keys, weight)
            )
        start = pairs.repeat_rows(query_term)  # [P, H]
        if self.of_age is not None:
            start = start + self.of_age(age).to(start.dtype)
        hidden = self.act(_AddPairTerms.apply(start, query, keys, weight, pairs.row, pairs.offsets))
        with torch.autocast(hidden.device.type, torch.bfloat16) if use_bfloat16 else nullcontext():
            scores = self.rest(hidden).squeeze(1)
        return scores.float() if use_bfloat16 else scores

    def key_term(self, keys: Tensor, age: Tensor | None = None) -> Tensor:
        """Compute what the first layer adds for each behaviour alone: [N, d] -> [N, H]."""
        _, to_k, to_difference, _ = self.first.weight.chunk(4, dim=1)
        term = F.linear(keys, to_k - to_difference)
        return term if self.of_age is None else term + self.of_age(age)

    def score_shared(self, query: Tensor, keys: Tensor, pairs: Pairs, key_term: Tensor) -> Tensor:
        """Return what ``forward`` returns, given ``key_term`` [N, H] of the behaviours.

        Candidates that share a history share this term, so each costs half of the product.
        """
        to_q, _, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        start = F.linear(query, to_q + to_difference, self.first.bias).index_select(0, pairs.row)
        start += key_term.index_select(0, pairs.position)
        start.addmm_(query.index_select(0, pairs.row) * keys, to_product.t())
        return self.rest(self.act(start)).squeeze(1)

    def precompute_history(self, keys: Tensor, age: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the first layer of one history: keys [L, d] -> ([d, L * H], [L * H]).

        For a fixed history the layer is linear in the candidate, so everything that depends on the
        history is computed once, and a candidate costs one product.
        """
        to_q, _, to_difference, to_product = self.first.weight.chunk(4, dim=1)
        weight = torch.addcmul(
            (to_q + to_difference).t()[:, None], keys.t()[:, :, None], to_product.t()[:, None]
        )
        shift = self.key_term(keys, age) + self.first.bias
        return weight.flatten(1), shift.flatten()

    def score_candidates(self, query: Tensor, precomputed: tuple[Tensor, Tensor]) -> Tensor:
        """Query [C, d] and the result of ``precompute_history`` -> scores [C, L]."""
        weight, shift = precomputed
        hidden = torch.addmm(shift, query, weight).view(-1, self.first.out_features)
        return self.rest(self.act(hidden)).view(len(query), -1)


class AttentivePooling(nn.Module):
    """The interest of DIN: behaviours weighted by the candidate (section 4.3).

    ``softmax`` normalises the weights over a history. The paper does not, to preserve the intensity
    of an interest.
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
        if self.training or torch.compiler.is_exporting():
            return self.pool_pairs(query, keys, pairs, age)
        if pairs.group_size >= MIN_GROUP:
            return self._pool_each_history(query, keys, pairs, age)
        shared = pairs.group_size >= MIN_SHARED
        key_term = self.unit.key_term(keys, age) if shared else None
        in_cache = MAX_HIDDEN_ELEMENTS // self.unit.first.out_features
        most = max(1, in_cache if query.is_cpu else len(pairs.row))
        pooled = [
            self.pool_pairs(
                query[rows], keys[own], part, None if age is None else age[own], key_term
            )
            for rows, own, part in pairs.parts(most)
        ]
        if not pooled:
            return torch.zeros_like(query), query.new_zeros(0)
        interests, weights = zip(*pooled, strict=True)
        return torch.cat(interests), torch.cat(weights)

    def pool_pairs(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None,
        key_term: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Score all pairs at once, with one product each; see ``ActivationUnit.key_term``."""
        keys = pairs.gather_behaviours(keys)
        if key_term is None:
            age = None if age is None else pairs.gather_behaviours(age)
            scores = self.unit(query, keys, pairs, age)
        else:
            scores = self.unit.score_shared(query, keys, pairs, key_term)
        weights = segment_softmax(scores, pairs) if self.softmax else scores
        return weighted_sum(keys, weights, pairs), weights

    def _pool_each_history(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the same one history at a time, without copying behaviours for each candidate."""
        interests, weights = [query[:0]], [query[:0, 0]]
        for rows, behaviours in pairs.groups():
            history_keys = keys[behaviours]
            if not len(history_keys):
                interests.append(torch.zeros_like(query[rows]))
                continue
            precomputed = self.unit.precompute_history(
                history_keys, None if age is None else age[behaviours]
            )
            candidates = query[rows]
            for part in candidates.split(max(1, MAX_HIDDEN_ELEMENTS // len(precomputed[1]))):
                scores = self.unit.score_candidates(part, precomputed)
                weight = torch.softmax(scores, 1) if self.softmax else scores
                interests.append(weight @ history_keys)
                weights.append(weight.flatten())
        return torch.cat(interests), torch.cat(weights)


class MeanPooling(nn.Module):
    """The user vector of an Embedding & MLP model: the mean of the behaviours."""

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Query [B, d], keys [N, d] -> interest [B, d] and equal weights [P]; ages are not read."""
        keys = pairs.gather_behaviours(keys)
        weights = 1 / pairs.offsets.diff().to(keys.dtype)[pairs.row]
        return weighted_sum(keys, weights, pairs), weights


class PersonaPooling(nn.Module):
    """A few user vectors that attend to the history, mixed by the candidate.

    As in Attentive Multi-Persona Collaborative Filtering (arXiv 2010.07042): a persona is a
    weighted sum of the behaviours that does not depend on the candidate, and the candidate weighs
    the personas by their match with it. It lies between one fixed vector and DIN.
    """

    def __init__(self, dimension: int, personas: int) -> None:
        super().__init__()
        self.attention = nn.Linear(dimension, personas, bias=False)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, age: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Query [B, d], keys [N, d] -> interest [B, d] and the weights [P]; ages are not read."""
        keys = pairs.gather_behaviours(keys)
        persona_weights = segment_softmax(self.attention(keys), pairs)  # [P, K]
        match = (pairs.repeat_rows(query) * keys).sum(1, keepdim=True)  # [P, 1]
        rows, personas = query.shape[0], persona_weights.shape[1]
        affinity = match.new_zeros(rows, personas).index_add(0, pairs.row, persona_weights * match)
        mixed = torch.softmax(affinity / query.shape[1] ** 0.5, 1)  # [B, K]
        weights = (persona_weights * mixed[pairs.row]).sum(1)
        return weighted_sum(keys, weights, pairs), weights
