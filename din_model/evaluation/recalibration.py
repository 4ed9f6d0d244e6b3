"""Recalibration: a line from logits to better logits, fitted on rows that no step trained on."""

import torch
from torch import Tensor

from din_model.data.loader import Loader
from din_model.distributed.collectives import all_reduce
from din_model.evaluation.evaluate import predict_batches
from din_model.modules.din import DIN

LEAST_OF_A_LABEL = 30
"""Clicked and unclicked rows below which nothing is fitted: the line would follow chance."""

RIDGE = 10.0
"""Information of the rows that the unchanged line counts as; few rows then change little."""

NEWTON_STEPS = 20
EDGE = 1e-7


def recalibrate(model: DIN, loader: Loader) -> None:
    """Fit ``model.calibration`` by the labels of a loader's rows, over all ranks (Platt scaling).

    Logits keep their order within and across users. The model trains without it and applies it in
    evaluation, in scoring and in exports.
    """
    model.calibration.copy_(torch.tensor([1.0, 0.0]))
    logits, labels, weights = [], [], []
    for columns, score in predict_batches(model, loader):
        logits.append(torch.logit(torch.from_numpy(score).double(), EDGE))
        labels.append(torch.from_numpy(columns["label"]).double())
        weight = columns.get("weight")
        weights.append(
            torch.ones_like(labels[-1]) if weight is None else torch.from_numpy(weight).double()
        )
    empty = torch.zeros(0, dtype=torch.float64)
    line = _fit(*(torch.cat([empty, *parts]) for parts in (logits, labels, weights)))
    model.calibration.copy_(line)


def _fit(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return (scale, shift) [2]: the likeliest, drawn towards (1, 0); scale is positive."""
    line = unchanged = torch.tensor([1.0, 0.0], dtype=torch.float64)
    of_label = all_reduce(torch.stack([labels.sum(), (1 - labels).sum()]))
    if float(of_label.min()) < LEAST_OF_A_LABEL:
        return unchanged
    inputs = torch.stack([logits, torch.ones_like(logits)], 1)
    for _ in range(NEWTON_STEPS):
        rate = torch.sigmoid(inputs @ line)
        gradient = inputs.t() @ (weights * (rate - labels))
        information = (inputs * (weights * rate * (1 - rate))[:, None]).t() @ inputs
        sums = all_reduce(torch.cat([gradient[:, None], information], 1))
        hessian = sums[:, 1:] + RIDGE * torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
        slope = sums[:, 0] + torch.stack([RIDGE * (line[0] - 1), torch.zeros_like(line[0])])
        line = line - torch.linalg.solve(hessian, slope)
    return line if bool(torch.isfinite(line).all()) and line[0] > 0 else unchanged
