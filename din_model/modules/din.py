"""DIN(spec, config): a Batch in, one logit a row out (arXiv 1706.06978)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from din_model.config import Section
from din_model.data.batch import Batch, Jagged
from din_model.features import AGE, FeatureSpec, History
from din_model.modules.attention import AttentivePooling, MeanPooling, PersonaPooling
from din_model.modules.deferred_init import build_deferred, materialise
from din_model.modules.embeddings import ITEM_BIAS, WIDE, EmbeddingTables
from din_model.modules.layers import MLP, Dice
from din_model.modules.segments import Pairs, pairs_of, segment_reduce

NODES = 64
"""Points of the integral in ``contributions``."""

Encoder = Literal["din", "mean", "personas"]


@dataclass(frozen=True)
class ModelConfig(Section):
    """The layers of a model.

    Attributes:
        encoder: how a history becomes an interest: ``din`` weighs the behaviours by the candidate,
            ``mean`` is one fixed vector, ``personas`` a few that the candidate mixes (arXiv
            2010.07042). All else is equal between them.
        attention: sizes of the hidden layers of the activation unit.
        tower: sizes of the hidden layers between the features and the logit.
        activation: of the hidden layers; ``dice`` is the paper's.
        softmax: weights of a history that sum to one; false is the paper's unnormalised sum.
        personas: how many vectors a user has, for the encoder ``personas``.
        item_bias: whether each item has a number of its own that is added to the logit.
        wide: so many hashed weights of (candidate, behaviour) crosses, which memorise pairs (arXiv
            1606.07792); 0 is none.
        init_std: standard deviation that the embeddings are drawn with.
    """

    encoder: Encoder = "din"
    attention: tuple[int, ...] = (64, 16)
    tower: tuple[int, ...] = (200, 80)
    activation: Literal["dice", "prelu", "relu", "sigmoid"] = "dice"
    softmax: bool = True
    personas: int = 4
    item_bias: bool = True
    wide: int = 0
    init_std: float = 0.05


class DIN(nn.Module):
    """Tables shared by candidate and history, an interest a kind, a tower, an item bias.

    The tower reads the user, the candidate, the context, each interest and its product with the
    candidate. A user without behaviours has a zero interest.
    """

    def __init__(self, spec: FeatureSpec, config: ModelConfig, row_of: dict[str, Tensor]) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.tables = EmbeddingTables(spec, row_of, config.item_bias, config.wide)
        self.pooling = nn.ModuleDict(
            {h.kind: _pooling(config, _width(spec, h), h.age) for h in spec.histories}
        )
        inputs = sum(f.dimension for f in spec.features)
        inputs += sum(2 * _width(spec, history) for history in spec.histories)
        self.tower = MLP(inputs, config.tower, config.activation)

    def reset_parameters(self, seed: int) -> None:
        """Draw all weights anew; equal seeds give equal weights."""
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            self.tables.reset_parameters(self.config.init_std)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                elif isinstance(module, nn.Embedding):
                    nn.init.zeros_(module.weight)  # at first every age weighs alike
                elif isinstance(module, (Dice, nn.PReLU)):
                    module.reset_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B]."""
        return self.explain(batch)[0]

    def explain(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B], and the weight of each (row, behaviour) pair of each kind [P]."""
        seen = self._encode(batch)
        logits = self._tower(seen, seen.interests)
        for crosses, pairs in zip(seen.crosses, seen.pairs.values(), strict=False):
            logits = logits + segment_reduce(crosses, pairs.offsets, "mean").squeeze(1)
        if seen.item_bias is not None:
            logits = logits + seen.item_bias
        return logits, seen.weights

    def contributions(self, batch: Batch) -> dict[str, Tensor]:
        """What each (row, behaviour) pair adds to the logit, signed, kind by kind [P].

        They add up, row by row, to the logit less the logit of the same row without its history.
        The tower is not linear, so the interest u is let grow from nothing to its full strength:
        F(u) - F(0) = integral over t in [0, 1] of grad F(t u) . u (Aumann and Shapley; integrated
        gradients, arXiv 1703.01365), and u is the sum of weight * behaviour. The integral is taken
        at ``NODES`` Gauss-Legendre points. A cross adds what it is.
        """
        with torch.no_grad():
            seen = self._encode(batch)
        points, shares = np.polynomial.legendre.leggauss(NODES)
        slopes = {kind: torch.zeros_like(u) for kind, u in seen.interests.items()}
        for point, share in zip((points + 1) / 2, shares / 2, strict=True):
            grown = {k: (u * point).requires_grad_() for k, u in seen.interests.items()}
            with torch.enable_grad():
                total = self._tower(seen, grown).sum()
            gradients = torch.autograd.grad(total, list(grown.values()))
            for kind, gradient in zip(grown, gradients, strict=True):
                slopes[kind] += share * gradient
        found = {}
        for n, (kind, pairs) in enumerate(seen.pairs.items()):
            along = (pairs.of_behaviour(seen.keys[kind]) * slopes[kind][pairs.row]).sum(1)
            found[kind] = seen.weights[kind] * along
            if seen.crosses:
                lengths = pairs.offsets.diff()[pairs.row]
                found[kind] = found[kind] + seen.crosses[n].squeeze(1) / lengths
        return found

    def _encode(self, batch: Batch) -> "_Encoded":
        """Embed a batch, and pool each history."""
        spec, shared = self.spec, batch.history_of
        pairs = {h.kind: pairs_of(batch.histories[h.kind], shared) for h in spec.histories}
        embedded = self._embed(batch, pairs)
        candidate = {f.name: embedded[f.name] for f in spec.features if f.dimension}
        seen = _Encoded(
            list(candidate.values()), {}, {}, pairs, {}, {}, [], embedded.get(ITEM_BIAS)
        )
        for history in spec.histories:
            kind = history.kind
            query = torch.cat([candidate[f] for f in history.fields.values()], 1)  # [B, d]
            keys = torch.cat([embedded[history.column(n)] for n in history.fields], 1)
            age = batch.histories[kind].fields.get(AGE)
            interest, weights = self.pooling[kind](query, keys, pairs[kind], age)
            seen.queries[kind], seen.keys[kind] = query, keys
            seen.interests[kind], seen.weights[kind] = interest, weights
            if self.config.wide:
                seen.crosses.append(embedded[f"{WIDE}__{kind}"])
        return seen

    def _tower(self, seen: "_Encoded", interests: dict[str, Tensor]) -> Tensor:
        """Logits [B], without crosses and item bias, of candidates that meet these interests."""
        inputs = list(seen.candidate)
        for kind, interest in interests.items():
            inputs += [interest, interest * seen.queries[kind]]
        logits: Tensor = self.tower(torch.cat(inputs, 1))
        return logits.squeeze(1)

    def _embed(self, batch: Batch, pairs: dict[str, Pairs]) -> dict[str, Tensor]:
        """Look everything up at once: features by name, history fields by column, bias, crosses."""
        spec, requests = self.spec, dict[str, tuple[str, Tensor]]()
        for f in spec.features:
            if f.dimension:
                ids = batch.features[f.name]
                requests[f.name] = (f.vocabulary, ids.values if isinstance(ids, Jagged) else ids)
        for history in spec.histories:
            for name, mirrored in history.fields.items():
                ids = batch.histories[history.kind].fields[name]
                requests[history.column(name)] = (spec[mirrored].vocabulary, ids)
            if self.config.wide:
                crosses = self._crosses(history, requests, pairs[history.kind])
                requests[f"{WIDE}__{history.kind}"] = (WIDE, crosses)
        if self.config.item_bias:
            requests[ITEM_BIAS] = (ITEM_BIAS, requests[spec.item][1])
        found = dict(zip(requests, self.tables(list(requests.values())), strict=True))
        for f in spec.features:
            lists = batch.features.get(f.name)
            if isinstance(lists, Jagged):
                found[f.name] = segment_reduce(found[f.name], lists.offsets, "mean")
        if self.config.item_bias:
            found[ITEM_BIAS] = found[ITEM_BIAS].squeeze(1)
        return found

    def _crosses(
        self, history: History, requests: dict[str, tuple[str, Tensor]], pairs: Pairs
    ) -> Tensor:
        """The hashed row of each (candidate, behaviour) pair [P]; rare ids are one id here too."""
        feature = self.spec.key_feature(history)
        name = next(n for n, mirrored in history.fields.items() if mirrored == feature.name)
        shown = self.tables.rows(feature.vocabulary, requests[feature.name][1])[pairs.row]
        done = self.tables.rows(feature.vocabulary, requests[history.column(name)][1])
        done = pairs.of_behaviour(done)
        salt = self.spec.histories.index(history)
        # Odd constants whose products wrap around spread neighbouring ids over all of 64 bits.
        mixed = (shown * 0x1E3779B97F4A7C15) ^ ((done + salt) * 0x42B2AE3D27D4EB4F)
        return torch.remainder(mixed >> 20, self.config.wide)


class _Encoded(NamedTuple):
    """A batch on its way through the model; dicts have a key a kind of history."""

    candidate: list[Tensor]  # of each feature [B, its dimension]
    queries: dict[str, Tensor]  # [B, d]
    keys: dict[str, Tensor]  # [N, d]
    pairs: dict[str, Pairs]
    interests: dict[str, Tensor]  # [B, d]
    weights: dict[str, Tensor]  # [P]
    crosses: list[Tensor]  # [P, 1] a kind; none without a wide part
    item_bias: Tensor | None  # [B]


def _pooling(config: ModelConfig, dimension: int, age: bool) -> nn.Module:
    if config.encoder == "mean":
        return MeanPooling()
    if config.encoder == "personas":
        return PersonaPooling(dimension, config.personas)
    return AttentivePooling(dimension, config.attention, config.activation, config.softmax, age)


def _width(spec: FeatureSpec, history: History) -> int:
    return sum(spec[mirrored].dimension for mirrored in history.fields.values())


def new_model(
    spec: FeatureSpec,
    config: ModelConfig,
    row_of: dict[str, Tensor],
    seed: int,
    device: torch.device | None = None,
    sharding: tuple[str, float] | None = None,
) -> DIN:
    """Build a freshly drawn model; what this rank holds is allocated once, where it shall be.

    Args:
        sharding: deal the tables out over the ranks, which all take part; their row optimizer's
            rule and learning rate (din_model.modules.sharded_embeddings). The weights are the same either way.
    """
    device = device or torch.device("cpu")
    model = build_deferred(lambda: DIN(spec, config, row_of))
    if sharding:
        from din_model.modules.sharded_embeddings import Shards  # TorchRec, which not everybody has

        model.tables.hold_shards(Shards(model.tables.sizes, *sharding, device))
    model = materialise(model, device)
    model.reset_parameters(seed)
    return model
