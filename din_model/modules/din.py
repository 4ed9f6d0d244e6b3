"""DIN(spec, config): a Batch to one logit per row (arXiv 1706.06978)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from din_model.config import Section
from din_model.data.batch import Batch, Jagged
from din_model.features import AGE, UNKNOWN, FeatureSpec, History
from din_model.modules.attention import AttentivePooling, MeanPooling, PersonaPooling
from din_model.modules.deferred_init import build_deferred, materialise
from din_model.modules.embeddings import ITEM_BIAS, WIDE, EmbeddingTables
from din_model.modules.layers import MLP, Dice
from din_model.modules.numeric import NumericInputs
from din_model.modules.segments import Pairs, pairs_of, segment_reduce
from din_model.modules.vectors import GivenVectors
from din_model.ranges import Count, Length, NotNegative

QUADRATURE_POINTS = 64
"""Quadrature points of the integral in ``contributions``."""

Encoder = Literal["din", "mean", "personas"]


@dataclass(frozen=True)
class ModelConfig(Section):
    """The layers of a model.

    Attributes:
        encoder: how a history becomes an interest: ``din`` weighs behaviours by the candidate,
            ``mean`` is one fixed vector, ``personas`` a few vectors mixed by the candidate (arXiv
            2010.07042). The rest of the model is equal.
        attention: sizes of the hidden layers of the activation unit.
        tower: sizes of the hidden layers between features and logit.
        activation: of the hidden layers; ``dice`` is the paper's.
        softmax: normalise the weights of a history; false is the paper's unnormalised sum.
        personas: number of user vectors of the encoder ``personas``.
        matches: tell the tower how many behaviours share the item, the category and so on with the
            candidate; of the encoder ``din`` only.
        item_bias: add a learned number per item to the logit, unless the item has dimension 0,
            which keeps it out of the model.
        wide: number of hashed weights of (candidate, behaviour) crosses, which memorise pairs
            (arXiv 1606.07792); 0 for none.
        init_std: standard deviation of the initial embeddings.
    """

    encoder: Encoder = "din"
    attention: tuple[Length, ...] = (64, 16)
    tower: tuple[Length, ...] = (200, 80)
    activation: Literal["dice", "prelu", "relu", "sigmoid"] = "dice"
    softmax: bool = True
    personas: Length = 4
    matches: bool = True
    item_bias: bool = True
    wide: Count = 0
    init_std: NotNegative = 0.05


class DIN(nn.Module):
    """Shared tables of candidate and history, one interest per kind, a tower, an item bias.

    The tower reads the user, the candidate, the context, each interest, its product with the
    candidate, how many behaviours match the candidate, and the counters and numbers. Without
    behaviours the interest is zero.

    The logit is that of the item's smoothed click rate (modules.numeric), or of the base rate
    without counters, plus what the tower and the item bias add. Both add zero before training, so
    an untrained model ranks by popularity. In evaluation, what they add is multiplied by ``share``,
    and ``calibration`` (scale and shift) then corrects the logit; see evaluation.recalibration.
    """

    share: Tensor
    calibration: Tensor

    def __init__(
        self, spec: FeatureSpec, config: ModelConfig, id_to_row: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.item_bias = config.item_bias and spec[spec.item].dimension > 0
        self.tables = EmbeddingTables(spec, id_to_row, self.item_bias, config.wide)
        self.given_vectors: dict[str, GivenVectors] = {}
        for f in spec.vectors:
            self.given_vectors[f.vocabulary] = GivenVectors(f.size, f.dimension)
            self.add_module(f"{f.vocabulary}__vectors", self.given_vectors[f.vocabulary])
        self.pooling = nn.ModuleDict(
            {_module(h.kind): _pooling(config, _width(spec, h), h.age) for h in spec.histories}
        )
        inputs = sum(f.dimension for f in spec.features)
        inputs += sum(2 * _width(spec, history) for history in spec.histories)
        self.numeric = NumericInputs(spec)
        inputs += self.numeric.size
        matched = config.encoder == "din" and config.matches
        self._matched = {h.kind: spec.keyed_fields(h) if matched else {} for h in spec.histories}
        inputs += sum(2 * len(names) for names in self._matched.values())
        self.tower = MLP(inputs, config.tower, config.activation)
        self.register_buffer("share", torch.tensor(1.0))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def reset_parameters(self, seed: int) -> None:
        """Draw all weights; equal seeds give equal weights."""
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            self.tables.reset_parameters(self.config.init_std)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                elif isinstance(module, nn.Embedding):
                    nn.init.zeros_(module.weight)  # ages start without influence
                elif isinstance(module, (Dice, nn.PReLU, NumericInputs, GivenVectors)):
                    module.reset_parameters()
            self.tower.zero_output()
            self.share.fill_(1.0)
            self.calibration.copy_(torch.tensor([1.0, 0.0]))

    def hold_vectors(self, vectors: Mapping[str, NDArray[Any]]) -> None:
        """Look given vectors up in ``vectors`` (vocabulary -> [ids, size]) from now on."""
        for name, values in vectors.items():
            self.given_vectors[name].hold(torch.from_numpy(values))

    @torch.no_grad()
    def measure(
        self, rows: Iterable[Tensor], base_rate: float, popularity_weight: float = 1.0
    ) -> None:
        """Measure the numbers of training rows; see NumericInputs.measure.

        What never differs in training is not learned, such as a counter of a log's first day, so
        the tower starts without it: weights as they were drawn would only add noise later.
        """
        constant = self.numeric.measure(rows, base_rate, popularity_weight)
        first = sum(f.dimension for f in self.spec.features)
        weight = self.tower.get_submodule("0").get_parameter("weight")
        weight[:, first : first + self.numeric.size][:, constant] = 0

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [B]."""
        return self.explain(batch)[0]

    def explain(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits [B], and the weight of each (row, behaviour) pair per kind [P]."""
        encoded = self._encode(batch)
        added = self._added(encoded)
        if self.training:
            return encoded.popularity + added, encoded.weights
        logits = encoded.popularity + self.share * added
        return logits * self.calibration[0] + self.calibration[1], encoded.weights

    def parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logit of the popularity [B], and what the model adds to it [B]."""
        encoded = self._encode(batch)
        return encoded.popularity, self._added(encoded)

    def contributions(self, batch: Batch) -> dict[str, Tensor]:
        """Return what each (row, behaviour) pair adds to the logit, signed, per kind [P].

        Per row they sum to the logit minus the logit of the same row without history. The tower is
        not linear, so the interest u is scaled from zero to its full strength: F(u) - F(0) =
        integral over t in [0, 1] of grad F(t u) . u (Aumann and Shapley; integrated gradients,
        arXiv 1703.01365), and u is the sum of weight * behaviour; so are the counts of matches, as
        sums of ones. The integral is evaluated at ``QUADRATURE_POINTS`` Gauss-Legendre points. A
        cross contributes its own value.
        """
        with torch.no_grad():
            encoded = self._encode(batch)
        points, shares = np.polynomial.legendre.leggauss(QUADRATURE_POINTS)
        slopes = {kind: torch.zeros_like(u) for kind, u in encoded.interests.items()}
        of_counts = {kind: torch.zeros_like(n) for kind, n in encoded.counts.items()}
        for point, share in zip((points + 1) / 2, shares / 2, strict=True):
            scaled = {k: (u * point).requires_grad_() for k, u in encoded.interests.items()}
            counts = {k: (n * point).requires_grad_() for k, n in encoded.counts.items()}
            with torch.enable_grad():
                total = self._tower(encoded, scaled, counts).sum()
            gradients = torch.autograd.grad(total, [*scaled.values(), *counts.values()])
            for kind, gradient in zip(scaled, gradients, strict=False):
                slopes[kind] += share * gradient
            for kind, gradient in zip(counts, gradients[len(scaled) :], strict=True):
                of_counts[kind] += share * gradient
        contributions = {}
        for n, (kind, pairs) in enumerate(encoded.pairs.items()):
            keys = pairs.gather_behaviours(encoded.keys[kind])
            per_pair = (keys * slopes[kind][pairs.row]).sum(1)
            contributions[kind] = encoded.weights[kind] * per_pair
            if kind in of_counts:
                matched = encoded.matches[kind] * of_counts[kind][pairs.row]
                contributions[kind] = contributions[kind] + matched.sum(1)
            if encoded.crosses:
                lengths = pairs.offsets.diff()[pairs.row]
                contributions[kind] = contributions[kind] + encoded.crosses[n].squeeze(1) / lengths
            contributions[kind] = contributions[kind] * self.share * self.calibration[0]
        return contributions

    def _encode(self, batch: Batch) -> "_Encoded":
        """Embed a batch and pool each history."""
        spec, shared = self.spec, batch.history_of
        pairs = {h.kind: pairs_of(batch.histories[h.kind], shared) for h in spec.histories}
        embedded = self._embed(batch, pairs)
        candidate = {f.name: embedded[f.name] for f in spec.features if f.dimension}
        numbers, popularity = self.numeric(batch.numbers)
        encoded = _Encoded(
            [*candidate.values(), numbers], {}, {}, pairs, {}, {}, {}, {}, [], popularity,
            embedded.get(ITEM_BIAS),
        )  # fmt: skip
        for history in spec.histories:
            kind = history.kind
            query = torch.cat([candidate[f] for f in history.fields.values()], 1)  # [B, d]
            keys = torch.cat([embedded[history.column(n)] for n in history.fields], 1)
            age = batch.histories[kind].fields.get(AGE)
            interest, weights = self.pooling[_module(kind)](query, keys, pairs[kind], age)
            encoded.queries[kind], encoded.keys[kind] = query, keys
            encoded.interests[kind], encoded.weights[kind] = interest, weights
            if self._matched[kind]:
                encoded.matches[kind] = self._matches(batch, history, pairs[kind])
                encoded.counts[kind] = segment_reduce(encoded.matches[kind], pairs[kind].offsets)
            if self.config.wide:
                encoded.crosses.append(embedded[f"{WIDE}__{kind}"])
        return encoded

    def _added(self, encoded: "_Encoded") -> Tensor:
        """Return what tower, crosses and item bias add to the popularity [B]."""
        added = self._tower(encoded, encoded.interests, encoded.counts)
        for crosses, pairs in zip(encoded.crosses, encoded.pairs.values(), strict=False):
            added = added + segment_reduce(crosses, pairs.offsets, "mean").squeeze(1)
        return added if encoded.item_bias is None else added + encoded.item_bias

    def _tower(
        self, encoded: "_Encoded", interests: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> Tensor:
        """Return logits [B] for given interests and counts, without crosses and item bias."""
        inputs = list(encoded.candidate)
        for kind, interest in interests.items():
            inputs += [interest, interest * encoded.queries[kind]]
        for kind, count in counts.items():
            lengths = encoded.pairs[kind].offsets.diff()[:, None]
            inputs += [torch.log1p(count), count / lengths.clamp(min=1)]
        logits: Tensor = self.tower(torch.cat(inputs, 1))
        return logits.squeeze(1)

    def _embed(self, batch: Batch, pairs: dict[str, Pairs]) -> dict[str, Tensor]:
        """Look up features by name, history fields by column, item bias and crosses."""
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
                crosses = self._cross_rows(history, requests, pairs[history.kind])
                requests[f"{WIDE}__{history.kind}"] = (WIDE, crosses)
        if self.item_bias:
            requests[ITEM_BIAS] = (ITEM_BIAS, requests[spec.item][1])
        trained = {
            n: request for n, request in requests.items() if request[0] not in self.given_vectors
        }
        embedded = dict(zip(trained, self.tables(list(trained.values())), strict=True))
        embedded |= {
            n: self.given_vectors[v](ids) for n, (v, ids) in requests.items() if n not in trained
        }
        for f in spec.features:
            lists = batch.features.get(f.name)
            if isinstance(lists, Jagged):
                embedded[f.name] = segment_reduce(embedded[f.name], lists.offsets, "mean")
        if self.item_bias:
            embedded[ITEM_BIAS] = embedded[ITEM_BIAS].squeeze(1)
        return embedded

    def _matches(self, batch: Batch, history: History, pairs: Pairs) -> Tensor:
        """Return 1 where a behaviour has the candidate's id, 0 elsewhere [P, fields]."""
        columns = []
        for name, mirrored in self._matched[history.kind].items():
            own = pairs.gather_behaviours(batch.histories[history.kind].fields[name])
            candidate = batch.features[mirrored]
            assert isinstance(candidate, Tensor)
            columns.append((own == candidate.index_select(0, pairs.row)) & (own > UNKNOWN))
        return torch.stack(columns, 1).float()

    def _cross_rows(
        self, history: History, requests: dict[str, tuple[str, Tensor]], pairs: Pairs
    ) -> Tensor:
        """Return the hashed row of each (candidate, behaviour) pair [P].

        Rare ids share one id here, too.
        """
        feature = self.spec.key_feature(history)
        name = next(n for n, mirrored in history.fields.items() if mirrored == feature.name)
        candidate_rows = self.tables.rows(feature.vocabulary, requests[feature.name][1])[pairs.row]
        behaviour_rows = self.tables.rows(feature.vocabulary, requests[history.column(name)][1])
        behaviour_rows = pairs.gather_behaviours(behaviour_rows)
        salt = self.spec.histories.index(history)
        # Products with odd constants wrap around and spread neighbouring ids over 64 bits.
        mixed = (candidate_rows * 0x1E3779B97F4A7C15) ^ (
            (behaviour_rows + salt) * 0x42B2AE3D27D4EB4F
        )
        return torch.remainder(mixed >> 20, self.config.wide)


class _Encoded(NamedTuple):
    """Intermediate values of a batch; dicts are keyed by kind of history."""

    candidate: list[Tensor]  # per feature [B, its dimension], and the numbers
    queries: dict[str, Tensor]  # [B, d]
    keys: dict[str, Tensor]  # [N, d]
    pairs: dict[str, Pairs]
    interests: dict[str, Tensor]  # [B, d]
    weights: dict[str, Tensor]  # [P]
    matches: dict[str, Tensor]  # [P, fields]: 1 where a behaviour has the candidate's id
    counts: dict[str, Tensor]  # [B, fields]: sums of matches
    crosses: list[Tensor]  # per kind [P, 1]; empty without a wide part
    popularity: Tensor  # logit [B]
    item_bias: Tensor | None  # [B]


def _pooling(config: ModelConfig, dimension: int, age: bool) -> nn.Module:
    if config.encoder == "mean":
        return MeanPooling()
    if config.encoder == "personas":
        return PersonaPooling(dimension, config.personas)
    return AttentivePooling(dimension, config.attention, config.activation, config.softmax, age)


def _module(kind: str) -> str:
    """Return a name that no attribute of a torch module has, unlike items or type."""
    return f"of_{kind}"


def _width(spec: FeatureSpec, history: History) -> int:
    return sum(spec[mirrored].dimension for mirrored in history.fields.values())


def new_model(
    spec: FeatureSpec,
    config: ModelConfig,
    id_to_row: dict[str, Tensor],
    seed: int,
    device: torch.device | None = None,
    sharding: tuple[str, float] | None = None,
    vectors: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> DIN:
    """Build a model with freshly drawn weights, allocated once on its device.

    Args:
        spec: names features and histories.
        config: the layers.
        id_to_row: vocabulary -> row of each id [ids] int32.
        seed: of the weights.
        device: where the model is allocated; the CPU by default.
        sharding: shard the tables over the ranks, which all take part: rule and learning rate of
            their optimizer (modules.sharded_embeddings). The weights are the same either way.
        vectors: vocabulary -> given vectors by id [ids, size].
    """
    device = device or torch.device("cpu")
    model = build_deferred(lambda: DIN(spec, config, id_to_row))
    if sharding:
        from din_model.modules.sharded_embeddings import Shards  # needs TorchRec

        model.tables.hold_shards(Shards(model.tables.sizes, *sharding, device))
    model = materialise(model, device)
    model.reset_parameters(seed)
    model.hold_vectors(vectors)
    for table in model.given_vectors.values():
        table.measure()
    return model
