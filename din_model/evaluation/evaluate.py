"""Predictions and metrics of a model on the rows of a loader."""

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray

from din_model.data.batch import from_rows
from din_model.data.loader import Loader
from din_model.data.rows import Columns
from din_model.evaluation.metrics import Meter
from din_model.modules.din import DIN


def evaluate(model: DIN, reader: Loader) -> dict[str, float]:
    """Return the metrics of all rows of all ranks (see metrics.Meter), without GAUC."""
    with Meter(by_user=False) as meter:
        for columns, score in predict_batches(model, reader):
            meter.add(columns["label"], score)
        return meter.result()


@torch.no_grad()  # the kernel of sharded tables does not support inference mode
def predict_batches(model: DIN, reader: Loader) -> Iterator[tuple[Columns, NDArray[Any]]]:
    """Yield the columns of each batch of this rank, and their probabilities [B]."""
    model.eval()
    device = next(model.parameters()).device
    for rows in reader.parts():
        batch = from_rows(rows, model.spec)
        yield rows.expanded(), torch.sigmoid(model(batch.to(device))).cpu().numpy()
