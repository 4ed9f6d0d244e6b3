"""Encoded examples, as a pandas frame, to probabilities: for rows that carry their history."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from din_model.data.batch import example_columns, from_columns
from din_model.modules.din import DIN
from din_model.registry.artifact import ModelMetadata

ROWS_AT_ONCE = 1024
"""Rows in one forward pass."""


@torch.inference_mode()
def probabilities(model: DIN, facts: ModelMetadata, rows: pd.DataFrame) -> NDArray[Any]:
    """Published score of each row [B] float64.

    Args:
        rows: as the store holds examples: a column a feature, lists padded, with their lengths.
    """
    names = [n for n in example_columns(model.spec) if n not in ("label", "weight")]
    columns = {name: _array(rows[name]) for name in names}
    found = [np.empty(0)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = {name: values[start : start + ROWS_AT_ONCE] for name, values in columns.items()}
        found.append(facts.probability(model(from_columns(part, model.spec))).numpy())
    return np.concatenate(found)


def _array(column: pd.Series) -> NDArray[Any]:
    """A column as [B], or as [B, L] where it holds lists."""
    if column.dtype == object and len(column):
        return np.stack(column.to_list())
    return column.to_numpy()
