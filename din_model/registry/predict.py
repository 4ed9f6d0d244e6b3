"""Encoded examples in a pandas frame to probabilities; the rows carry their history."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from din_model.data.batch import example_columns, from_columns
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

ROWS_AT_ONCE = 1024
"""Rows per forward pass."""


@torch.inference_mode()
def probabilities(model: DIN, metadata: ModelMetadata, rows: pd.DataFrame) -> NDArray[Any]:
    """Return the published score of each row [B] float64.

    Args:
        model: the model.
        metadata: its metadata.
        rows: examples as in the store: one column per feature, lists padded, with their lengths.
    """
    names = [n for n in example_columns(model.spec) if n not in ("label", "weight")]
    columns = {name: _array(rows[name]) for name in names}
    parts = [np.empty(0)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = {name: values[start : start + ROWS_AT_ONCE] for name, values in columns.items()}
        parts.append(metadata.probability(model(from_columns(part, model.spec))).numpy())
    return np.concatenate(parts)


def _array(column: pd.Series) -> NDArray[Any]:
    """Return a column as [B], or as [B, L] if it holds lists."""
    if column.dtype == object and len(column):
        return np.stack(column.to_list())
    return column.to_numpy()
