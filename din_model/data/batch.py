"""Columns into a jagged Batch, the input of the model in training and in scoring.

Batches hold no padding: a history is a segment of values between two offsets. In training every row
has its own history; in evaluation and scoring all rows of a user share one (``history_of``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from din_model.data.rows import Rows
from din_model.features import FeatureSpec


@dataclass(frozen=True)
class Jagged:
    """Concatenated lists of ids: list i is values[offsets[i]:offsets[i + 1]]."""

    values: Tensor  # [N] int64
    offsets: Tensor  # [lists + 1] int64


@dataclass(frozen=True)
class Histories:
    """The behaviours of one kind, oldest first; all fields share the offsets."""

    fields: dict[str, Tensor]  # each [N] int64
    offsets: Tensor  # [histories + 1] int64


@dataclass(frozen=True)
class Batch:
    """Rows to score, with labels if known.

    Attributes:
        rows: number of rows B.
        features: the id of each row ([B] int64), or a list of ids per row.
        histories: kind -> behaviours.
        label, weight: [B] float32; zeros and ones if unknown.
        history_of: the history of each row ([B] int64); None if row i has history i.
        numbers: counters and values, in the order of spec.numeric_columns ([B, columns] float32).
    """

    rows: int
    features: dict[str, Tensor | Jagged]
    histories: dict[str, Histories]
    label: Tensor
    weight: Tensor
    numbers: Tensor
    history_of: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
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
        label, weight, numbers = (t.to(device) for t in (self.label, self.weight, self.numbers))
        return Batch(self.rows, features, histories, label, weight, numbers, history_of)


def example_columns(spec: FeatureSpec) -> list[str]:
    """Return the columns of an example that a Batch needs, label and weight included."""
    names = ["label"] + (["weight"] if spec.weight else [])
    for f in spec.features:
        if f.dimension:
            names += [f.name] + ([f"{f.name}__length"] if f.is_list else [])
    for history in spec.histories:
        names += [history.column("length"), *map(history.column, history.lists)]
    return [*names, *spec.numeric_columns]


def input_columns(spec: FeatureSpec) -> list[str]:
    """Return the columns of an example that the model reads."""
    return [name for name in example_columns(spec) if name not in ("label", "weight")]


def list_lengths(spec: FeatureSpec) -> dict[str, int]:
    """Return the padded length of each column of an example that holds lists."""
    lengths = {f.name: f.max_length for f in spec.features if f.is_list}
    return lengths | spec.history_lengths


def from_columns(columns: Mapping[str, NDArray[Any]], spec: FeatureSpec) -> Batch:
    """Make a batch from padded columns, as examples store them ([B] and [B, L] arrays)."""
    return with_histories(columns, spec, _histories(columns, spec))


def from_rows(rows: Rows, spec: FeatureSpec) -> Batch:
    """Make a batch whose rows share histories as ``rows`` do."""
    if rows.each_has_its_own:
        return from_columns(rows.expanded(), spec)
    first = np.unique(rows.history_of, return_index=True)[1]
    lengths = {
        name: rows.columns[name][first] for name in (h.column("length") for h in spec.histories)
    }
    histories = _histories(rows.histories | lengths, spec)
    return with_histories(rows.columns, spec, histories, _ids(rows.history_of))


def _histories(columns: Mapping[str, NDArray[Any]], spec: FeatureSpec) -> dict[str, Histories]:
    """Return the behaviours of each row of padded columns, by kind."""
    histories = {}
    for history in spec.histories:
        lengths = columns[history.column("length")]
        padded = {name: columns[history.column(name)] for name in history.lists}
        inside = _inside(next(iter(padded.values())), lengths)
        fields = {name: _ids(values[inside]) for name, values in padded.items()}
        histories[history.kind] = Histories(fields, _offsets(lengths))
    return histories


def with_histories(
    columns: Mapping[str, NDArray[Any]],
    spec: FeatureSpec,
    histories: dict[str, Histories],
    history_of: Tensor | None = None,
) -> Batch:
    """Make a batch from the features in ``columns`` and from separate histories."""
    features: dict[str, Tensor | Jagged] = {}
    for f in spec.features:
        if f.dimension == 0:
            continue
        values = columns[f.name]
        features[f.name] = (
            _jagged(values, columns[f"{f.name}__length"]) if f.is_list else _ids(values)
        )
    rows = count_rows(columns)
    label, weight = columns.get("label"), columns.get("weight")
    return Batch(
        rows=rows,
        features=features,
        histories=histories,
        label=torch.zeros(rows) if label is None else _floats(label),
        weight=torch.ones(rows) if weight is None else _floats(weight),
        numbers=numbers_of(columns, spec),
        history_of=history_of,
    )


def count_rows(columns: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of rows; no column is always there, not even the item (dimension 0)."""
    return len(next(iter(columns.values())))


def numbers_of(columns: Mapping[str, NDArray[Any]], spec: FeatureSpec) -> Tensor:
    """Return counters and values [B, columns], in the order of spec.numeric_columns."""
    numbers = np.empty((count_rows(columns), len(spec.numeric_columns)), np.float32)
    for i, name in enumerate(spec.numeric_columns):
        numbers[:, i] = columns[name]
    return torch.from_numpy(numbers)


def _floats(values: NDArray[Any]) -> Tensor:
    """Copy the values: columns of Arrow are read-only, of which torch warns."""
    return torch.from_numpy(np.array(values, np.float32))


def _ids(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64))


def _jagged(padded: NDArray[Any], lengths: NDArray[Any]) -> Jagged:
    return Jagged(_ids(padded[_inside(padded, lengths)]), _offsets(lengths))


def _inside(padded: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Return which positions of padded lists [B, L] hold values [B, L]."""
    return np.arange(padded.shape[1]) < np.asarray(lengths)[:, None]


def _offsets(lengths: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.r_[0, np.cumsum(lengths, dtype=np.int64)])
