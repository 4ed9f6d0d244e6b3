"""Recalibration: corrects logits by rows that no step trained on.

It sets how much the model adds to the popularity, and a line from its logits to better ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.data.batch import from_columns
from din_model.data.loader import Loader
from din_model.distributed.collectives import all_reduce
from din_model.modules.din import DIN

SHARES = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
"""The shares that are tried. None is 0: without counters, all scores would be equal."""

LEAST_OF_A_LABEL = 30
"""Clicked and unclicked rows below which no line is fitted: it would follow chance."""

RIDGE = 10.0
"""Information of the rows that the unchanged line counts as; few rows then change little."""

NEWTON_STEPS = 20
LARGEST_SHIFT = 10.0


def recalibrate(model: DIN, loader: Loader) -> None:
    """Set ``model.share`` and ``model.calibration`` by a loader's rows, over all ranks.

    The share is the least whose log loss is within one standard error of the best (Breiman et al.,
    Classification and Regression Trees, 1984, section 3.4.3). A small log cannot tell whether what
    the model adds is true, and popularity is the safer answer. On a large log the error vanishes.

    The line is Platt scaling; it keeps the order of logits. The model trains without share and
    line, and applies both in evaluation, in scoring and in exports.
    """
    popularity, added, labels, weights = _rows(model, loader)
    share = _share(popularity, added, labels, weights)
    model.share.fill_(share)
    model.calibration.copy_(_line(popularity + share * added, labels, weights))


@torch.no_grad()  # the kernel of sharded tables does not support inference mode
def _rows(model: DIN, loader: Loader) -> tuple[Tensor, ...]:
    """Return popularity, what the model adds, label and weight of this rank's rows, float64."""
    model.eval()
    device = next(model.parameters()).device
    rows = [torch.zeros(4, 0, dtype=torch.float64)]
    for columns in loader.chunks():
        batch = from_columns(columns, model.spec)
        parts = [part.cpu() for part in model.parts(batch.to(device))]
        rows.append(torch.stack([part.double() for part in (*parts, batch.label, batch.weight)]))
    return torch.cat(rows, 1).unbind()


def _share(popularity: Tensor, added: Tensor, labels: Tensor, weights: Tensor) -> float:
    """Return the share; each is tried with the shift that suits it best."""
    logits = popularity + SHARES[:, None] * added
    logits = logits + _shifts(logits, labels, weights)[:, None]
    losses = F.softplus((1 - 2 * labels) * logits)
    sums = all_reduce(torch.cat([losses @ weights, weights.sum()[None]]))
    if not sums[-1]:
        return 1.0
    means = sums[:-1] / sums[-1]
    best = int(means.argmin())
    excess = means - means[best]
    deviations = (losses - losses[best] - excess[:, None]) * weights
    errors = all_reduce(deviations.square().sum(1)).sqrt() / sums[-1]
    return float(SHARES[int((excess <= errors).nonzero()[0])])


def _shifts(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the likeliest shift of each row of ``logits`` [shares, B], within LARGEST_SHIFT."""
    shift = torch.zeros(len(logits), dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        rate = torch.sigmoid(logits + shift[:, None])
        slope, curve = (rate - labels) @ weights, (rate * (1 - rate)) @ weights
        slope, curve = all_reduce(torch.stack([slope, curve]))
        shift = (shift - slope / curve.clamp(min=1e-9)).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
    return shift


def _line(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
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
