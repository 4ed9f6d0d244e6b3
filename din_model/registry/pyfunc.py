"""The registered model as MLflow loads it: code by name, weights as safetensors, no pickle.

MLflow runs this file to load the model as a pyfunc; din_model must be installed. Rows are encoded
examples (registry.predict).
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
        """Load the model from the version's artifacts."""
        self.model, self.metadata = load(Path(context.artifacts["model"]))

    def predict(
        self,
        context: Any,  # noqa: ARG002 (MLflow's signature)
        model_input: pd.DataFrame,  # or arrays by name; MLflow takes any other type for a signature
        params: Any = None,  # noqa: ARG002 (MLflow's signature)
    ) -> NDArray[Any]:
        """Encoded examples [B], as arrays by name or as a frame -> probabilities [B] float64."""
        return probabilities(self.model, self.metadata, model_input)


mlflow.models.set_model(DINPyfunc())
