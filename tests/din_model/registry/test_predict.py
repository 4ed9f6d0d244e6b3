"""Encoded examples in a pandas frame against the model called directly."""

import numpy as np
import pandas as pd

from din_model.data.batch import from_columns
from din_model.registry import predict
from din_model.registry.artifact import ModelMetadata
from din_model.registry.predict import probabilities
from tests.din_model.conftest import small_spec, some_columns, some_model

METADATA = ModelMetadata("2026-11-21", "f", logit_shift=-0.7)


def frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """A column per feature; lists as arrays in an object column, as Spark hands them over."""
    return pd.DataFrame({n: list(v) if v.ndim == 2 else v for n, v in columns.items()})


def test_rows_of_several_forward_passes_come_back_in_order(monkeypatch):
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", 7)
    model, columns = some_model().eval().requires_grad_(False), some_columns(20)
    rows = frame(columns).drop(columns="label").assign(more="is not read")
    expected = METADATA.probability(model(from_columns(columns, small_spec())))
    found = probabilities(model, METADATA, rows)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert expected.std() > 0


def test_a_frame_without_rows_has_no_probabilities():
    model = some_model().eval()
    assert probabilities(model, METADATA, frame(some_columns(3)).iloc[:0]).tolist() == []
