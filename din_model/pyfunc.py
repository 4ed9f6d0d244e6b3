"""The registered model as MLflow loads it: code by name, weights as safetensors, nothing pickled.

MLflow runs this file when someone loads the model as a pyfunc; it needs din_model installed. Rows
are encoded examples, as the store holds them: one column a feature, lists padded, with lengths.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc import PythonModel

from din_model.artefact import load
from din_model.batch import example_columns, from_columns


class DINPyfunc(PythonModel):  # type: ignore[misc]
    """Click probability of each row."""

    def load_context(self, context: Any) -> None:
        self.model, self.facts = load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        """Encoded examples [B] -> probability [B] float32."""
        names = [n for n in example_columns(self.model.spec) if n not in ("label", "weight")]
        columns = {name: _array(model_input[name]) for name in names}
        with torch.inference_mode():
            logits = self.model(from_columns(columns, self.model.spec))
        return self.facts.probability(logits).float().numpy()


def _array(column: pd.Series) -> np.ndarray:
    """A column as [B], or as [B, L] where it holds lists."""
    return np.stack(column.to_list()) if column.dtype == object else column.to_numpy()


mlflow.models.set_model(DINPyfunc())
