"""The registered model as MLflow loads it: code by name, weights as safetensors, nothing pickled.

MLflow runs this file when someone loads the model as a pyfunc; it needs din_model installed. Rows
are encoded examples (din_model.registry.predict).
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from din_model.registry.artifact import load
from din_model.registry.predict import probabilities


class DINPyfunc(PythonModel):
    """Click probability of each row."""

    def load_context(self, context: Any) -> None:
        self.model, self.facts = load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> NDArray[Any]:
        """Encoded examples [B] -> probability [B] float64."""
        return probabilities(self.model, self.facts, model_input)


mlflow.models.set_model(DINPyfunc())
