"""DIN(spec, config): a Batch in, one logit a row out (arXiv 1706.06978)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.batch import Batch, Ragged
from din_model.config import Section
from din_model.deferred import build_deferred, materialise
from din_model.embeddings import ITEM_BIAS, EmbeddingTables
from din_model.features import AGE, FeatureSpec, History
from din_model.layers import MLP, AttentivePooling, Dice, MeanPooling, pairs_of


@dataclass(frozen=True)
class ModelConfig(Section):
    """``encoder``: how a history becomes an interest; all else is equal between them.

    ``softmax`` false is the paper's unnormalised sum. ``init_std``: of the embeddings.
    """

    encoder: Literal["din", "mean"] = "din"
    attention: tuple[int, ...] = (64, 16)
    tower: tuple[int, ...] = (200, 80)
    activation: Literal["dice", "prelu", "relu", "sigmoid"] = "dice"
    softmax: bool = True
    item_bias: bool = True
    init_std: float = 0.05


class DIN(nn.Module):
    """Tables shared by candidate and history, an interest a kind, a tower, an item bias.

    The tower reads the user, the candidate, the context, each interest and its product with the
    candidate. A user without behaviours has a zero interest.
    """

    def __init__(self, spec: FeatureSpec, config: ModelConfig, row_of: dict[str, Tensor]) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.tables = EmbeddingTables(spec, row_of, config.item_bias)
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
        spec, embedded = self.spec, self._embed(batch)
        candidate = {f.name: embedded[f.name] for f in spec.features if f.dimension}
        inputs, weights = list(candidate.values()), {}
        for history in spec.histories:
            query = torch.cat([candidate[f] for f in history.fields.values()], 1)  # [B, d]
            keys = torch.cat([embedded[history.column(n)] for n in history.fields], 1)  # [N, d]
            behaviours = batch.histories[history.kind]
            pairs, age = pairs_of(behaviours, batch.history_of), behaviours.fields.get(AGE)
            interest, weights[history.kind] = self.pooling[history.kind](query, keys, pairs, age)
            inputs += [interest, interest * query]
        logits = self.tower(torch.cat(inputs, 1)).squeeze(1)
        if self.config.item_bias:
            logits = logits + embedded[ITEM_BIAS].squeeze(1)
        return logits, weights

    def _embed(self, batch: Batch) -> dict[str, Tensor]:
        """Look everything up at once: features by name, history fields by column, the item bias."""
        spec, requests = self.spec, dict[str, tuple[str, Tensor]]()
        for f in spec.features:
            if f.dimension:
                ids = batch.features[f.name]
                requests[f.name] = (f.vocabulary, ids.values if isinstance(ids, Ragged) else ids)
        for history in spec.histories:
            for name, mirrored in history.fields.items():
                ids = batch.histories[history.kind].fields[name]
                requests[history.column(name)] = (spec[mirrored].vocabulary, ids)
        if self.config.item_bias:
            requests[ITEM_BIAS] = (ITEM_BIAS, requests[spec.item][1])
        found = dict(zip(requests, self.tables(list(requests.values())), strict=True))
        for f in spec.features:
            lists = batch.features.get(f.name)
            if isinstance(lists, Ragged):
                found[f.name] = _mean(found[f.name], lists.offsets)
        return found


def _pooling(config: ModelConfig, dimension: int, age: bool) -> nn.Module:
    if config.encoder == "mean":
        return MeanPooling()
    return AttentivePooling(dimension, config.attention, config.activation, config.softmax, age)


def _width(spec: FeatureSpec, history: History) -> int:
    return sum(spec[mirrored].dimension for mirrored in history.fields.values())


def _mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean of each list of embeddings: [N, d] -> [B, d]; zero for an empty list."""
    everything = torch.arange(len(values), device=values.device)
    return F.embedding_bag(everything, values, offsets, mode="mean", include_last_offset=True)


def new_model(
    spec: FeatureSpec,
    config: ModelConfig,
    row_of: dict[str, Tensor],
    seed: int,
    device: torch.device | None = None,
) -> DIN:
    """Build a freshly drawn model; its tables are allocated once, where they shall be."""
    model = build_deferred(lambda: DIN(spec, config, row_of))
    model = materialise(model, device or torch.device("cpu"))
    for name, rows in row_of.items():
        model.tables.row_of(name).copy_(rows)  # to_empty forgets what was not drawn
    model.reset_parameters(seed)
    return model
