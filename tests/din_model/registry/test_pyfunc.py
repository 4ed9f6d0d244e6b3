"""A registered version as MLflow loads it."""

import mlflow
import pandas as pd

from din_model.registry.artifact import load
from din_model.registry.predict import probabilities
from tests.din_model.conftest import some_columns


def test_the_pyfunc_gives_the_published_probabilities(name, tmp_path):
    columns = some_columns(9)
    rows = pd.DataFrame({n: list(v) if v.ndim == 2 else v for n, v in columns.items()})
    found = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(rows)
    assert found.tolist() == probabilities(*load(tmp_path / "model"), rows).tolist()
    assert found.std() > 0
