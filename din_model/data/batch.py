"""Columns -> ragged Batch: what the model sees, made alike for training and for scoring.

No padding enters: a history is a run of values between two offsets. In training every row has its
own; in scoring all of a user's candidates share one (``history_of``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from din_model.features import FeatureSpec


@dataclass(frozen=True)
class Jagged:
    """Lists of ids, end to end: list i is values[offsets[i]:offsets[i + 1]]."""

    values: Tensor  # [N] int64
    offsets: Tensor  # [lists + 1] int64


@dataclass(frozen=True)
class Histories:
    """One kind's behaviours, oldest first: every field has the same offsets."""

    fields: dict[str, Tensor]  # each [N] int64
    offsets: Tensor  # [histories + 1] int64


@dataclass(frozen=True)
class Batch:
    """Rows to score, and what is known of their outcome.

    Attributes:
        features: id of each row ([B] int64), or a list of ids a row.
        histories: kind -> behaviours.
        history_of: row -> which history is its own ([B] int64); None: row i has history i.
        label, weight: [B] float32; zeros and ones where nothing is known.
    """

    rows: int
    features: dict[str, Tensor | Jagged]
    histories: dict[str, Histories]
    label: Tensor
    weight: Tensor
    history_of: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        if device.type == "cpu":
            return self
        features = {
            name: Jagged(v.values.to(device), v.offsets.to(device))
            if isinstance(v, Jagged)
            else v.to(device)
            for name, v in self.features.items()
        }
        histories = {
            kind: Histories({n: v.to(device) for n, v in h.fields.items()}, h.offsets.to(device))
            for kind, h in self.histories.items()
        }
        history_of = None if self.history_of is None else self.history_of.to(device)
        label, weight = self.label.to(device), self.weight.to(device)
        return Batch(self.rows, features, histories, label, weight, history_of)


def example_columns(spec: FeatureSpec) -> list[str]:
    """The columns of an example that a Batch is made of, label and weight included."""
    names = ["label"] + (["weight"] if spec.weight else [])
    for f in spec.features:
        if f.dimension:
            names += [f.name] + ([f"{f.name}__length"] if f.is_list else [])
    for history in spec.histories:
        names += [history.column("length"), *map(history.column, history.lists)]
    return names


def from_columns(columns: Mapping[str, NDArray[Any]], spec: FeatureSpec) -> Batch:
    """Make a batch of padded columns, as examples store them ([B] and [B, L] arrays)."""
    histories = {}
    for history in spec.histories:
        lengths = columns[history.column("length")]
        padded = {name: columns[history.column(name)] for name in history.lists}
        inside = _inside(next(iter(padded.values())), lengths)
        fields = {name: _ids(values[inside]) for name, values in padded.items()}
        histories[history.kind] = Histories(fields, _offsets(lengths))
    return with_histories(columns, spec, histories)


def with_histories(
    columns: Mapping[str, NDArray[Any]],
    spec: FeatureSpec,
    histories: dict[str, Histories],
    history_of: Tensor | None = None,
) -> Batch:
    """Make a batch of the features in ``columns`` and of histories made elsewhere."""
    features: dict[str, Tensor | Jagged] = {}
    for f in spec.features:
        if f.dimension == 0:
            continue
        values = columns[f.name]
        features[f.name] = (
            _jagged(values, columns[f"{f.name}__length"]) if f.is_list else _ids(values)
        )
    rows = len(columns[spec.item])
    label, weight = columns.get("label"), columns.get("weight")
    return Batch(
        rows=rows,
        features=features,
        histories=histories,
        label=torch.zeros(rows) if label is None else torch.as_tensor(label, dtype=torch.float32),
        weight=torch.ones(rows) if weight is None else torch.as_tensor(weight, dtype=torch.float32),
        history_of=history_of,
    )


def _ids(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64))


def _jagged(padded: NDArray[Any], lengths: NDArray[Any]) -> Jagged:
    return Jagged(_ids(padded[_inside(padded, lengths)]), _offsets(lengths))


def _inside(padded: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Which places of padded lists [B, L] are real [B, L]."""
    return np.arange(padded.shape[1]) < np.asarray(lengths)[:, None]


def _offsets(lengths: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.r_[0, np.cumsum(lengths, dtype=np.int64)])
