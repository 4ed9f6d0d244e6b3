"""Scores of rows that were held out become probabilities, in the order that they had."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from din_model.data.loader import File, Loader
from din_model.evaluation.evaluate import predict_batches
from din_model.evaluation.recalibration import recalibrate
from din_model.modules.din import DIN
from tests.din_model.conftest import small_spec, some_columns, some_model

ROWS = 20_000


def spread_model() -> DIN:
    """A model whose logits differ enough to fit a line to."""
    model = some_model()
    with torch.no_grad():
        model.tower[-1].weight.mul_(10)
    return model


def rows_with(folder, truth, rows=ROWS, seed=2) -> Loader:
    """Rows whose labels are drawn from ``truth(logit)`` of the model."""
    columns = some_columns(rows)
    table = pa.table({n: v.tolist() if v.ndim > 1 else v for n, v in columns.items()})
    pq.write_table(table, f"{folder}/0.parquet")
    loader = Loader([File(f"file://{folder}/0.parquet", rows)], small_spec(), 500)
    logits = np.concatenate([torch.logit(torch.from_numpy(s)).numpy() for s in scores(loader)])
    clicked = np.random.default_rng(seed).random(rows) < 1 / (1 + np.exp(-truth(logits)))
    table = table.set_column(
        table.column_names.index("label"), "label", pa.array(clicked.astype(np.float32))
    )
    pq.write_table(table, f"{folder}/0.parquet")
    return loader


def scores(loader, model=None):
    return [score for _, score in predict_batches(model or spread_model(), loader)]


@pytest.mark.parametrize(("scale", "shift"), [(0.5, -1.0), (2.0, 0.7)])
def test_the_line_from_logits_to_the_true_ones_is_fitted(tmp_path, scale, shift):
    loader, model = rows_with(tmp_path, lambda logit: scale * logit + shift), spread_model()
    recalibrate(model, loader)
    of_logit, constant = model.calibration.tolist()
    assert [of_logit * float(model.share), constant] == pytest.approx([scale, shift], abs=0.25)
    after = np.concatenate(scores(loader, model))
    labels = np.concatenate([c["label"] for c in loader.chunks()])
    assert after.mean() == pytest.approx(labels.mean(), rel=1e-3)
    before = np.concatenate(scores(loader))
    assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).mean() > 0.99


@pytest.mark.parametrize(
    ("truth", "share"),
    [(lambda logit: logit, 1.0), (np.zeros_like, 0.1)],
    ids=["true", "noise"],
)
def test_a_model_adds_as_much_as_the_rows_support(tmp_path, truth, share):
    model = spread_model()
    recalibrate(model, rows_with(tmp_path, truth))
    assert float(model.share) == pytest.approx(share, abs=0.15)


def test_a_model_adds_less_where_few_rows_cannot_tell(tmp_path):
    shares = []
    for seed in range(9):
        model = spread_model()
        recalibrate(model, rows_with(tmp_path, lambda logit: logit, 60, seed))
        shares.append(float(model.share))
    assert np.median(shares) < 0.7


def test_training_ignores_share_and_calibration(tmp_path):
    model = spread_model()
    batch = next(rows_with(tmp_path, np.abs, rows=64).epoch())[0]
    before = model.train()(batch)
    model.share.fill_(0.3)
    model.calibration.copy_(torch.tensor([3.0, 1.0]))
    assert torch.equal(model.train()(batch), before)


@pytest.mark.parametrize("shift", [-9, 9])
def test_rows_of_one_label_change_nothing(tmp_path, shift):
    model = spread_model()
    recalibrate(model, rows_with(tmp_path, lambda logit: logit + shift, rows=200))
    assert model.calibration.tolist() == [1.0, 0.0]
