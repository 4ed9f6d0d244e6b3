"""What stands beside a model's scores in an evaluation."""

import numpy as np
import torch

from pipelines.training.evaluate import auc_in_words, uncalibrated
from tests.din_model.conftest import some_batch, some_model


def test_the_scores_before_the_calibration_are_those_of_the_model_without_it():
    model, batch = some_model().eval(), some_batch(64)
    before = torch.sigmoid(model(batch)).detach().numpy()
    assert uncalibrated(model) == {}
    model.calibration.copy_(torch.tensor([0.7, -0.4]))
    after = torch.sigmoid(model(batch)).detach().numpy()
    scores = uncalibrated(model)["din before calibration"]({}, after)
    assert not np.allclose(after, before, atol=1e-3)
    np.testing.assert_allclose(scores, before, atol=1e-6)


def test_rows_of_one_label_have_no_auc_in_words():
    assert auc_in_words(0.71234) == "AUC 0.7123"
    assert auc_in_words(float("nan")) == "no AUC: all rows have the same label"
