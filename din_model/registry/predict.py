"""Encoded examples to probabilities; the rows carry their history."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from din_model.data.batch import count_rows, from_columns, input_columns, list_lengths
from din_model.features import UNKNOWN, FeatureSpec
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

ROWS_AT_ONCE = 1024
"""Rows per forward pass."""


class Input(NamedTuple):
    """A column that the model reads: its type, and the length of its padded lists, if any."""

    type: type[np.int64] | type[np.float32]
    length: int | None


def inputs_of(spec: FeatureSpec) -> dict[str, Input]:
    """Return the columns of an example that the model reads, by name."""
    lengths = list_lengths(spec)
    return {
        name: Input(np.float32 if name in spec.numeric_columns else np.int64, lengths.get(name))
        for name in input_columns(spec)
    }


def unknown_rows(spec: FeatureSpec, rows: int = 1) -> dict[str, NDArray[Any]]:
    """Return rows of unknown ids with empty lists: a valid input of every model of the spec."""
    features = {f.name for f in spec.features if not (f.is_list or f.is_value)}
    return {
        name: np.full(
            rows if each.length is None else (rows, each.length),
            UNKNOWN if name in features else 0, each.type,
        )
        for name, each in inputs_of(spec).items()
    }  # fmt: skip


@torch.inference_mode()
def probabilities(
    model: DIN, metadata: ModelMetadata, rows: pd.DataFrame | Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """Return the published score of each row [B] float64.

    Args:
        model: the model.
        metadata: its metadata.
        rows: examples as in the store: one column per feature, lists padded, with their lengths.
    """
    columns = {name: _array(rows[name]) for name in inputs_of(model.spec)}
    size = count_rows(columns)
    parts = [np.empty(0)]
    for start in range(0, size, ROWS_AT_ONCE):
        part = {name: values[start : start + ROWS_AT_ONCE] for name, values in columns.items()}
        parts.append(metadata.probability(model(from_columns(part, model.spec))).numpy())
    return np.concatenate(parts)


def _array(column: "pd.Series[Any] | NDArray[Any]") -> NDArray[Any]:
    """Return a column as [B], or as [B, L] if it holds lists."""
    if isinstance(column, np.ndarray):
        return column
    if column.dtype == object and len(column):
        return np.stack(column.to_list())
    return column.to_numpy()
