"""Recalibration: corrects logits by rows that no step trained on.

It sets how much the model adds to the popularity, and a line from its logits to better ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.data.batch import from_rows
from din_model.data.loader import Loader
from din_model.distributed.collectives import all_reduce
from din_model.modules.din import DIN

SHARES = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
"""The shares that are tried. None is 0: without counters, all scores would be equal."""

PAIRS = 8
"""Unclicked rows that each clicked row is compared with, drawn with replacement from its user's."""

LEAST_OF_A_LABEL = 30
"""Clicked and unclicked rows below which no line is fitted: it would follow chance."""

RIDGE = 10.0
"""Information of the rows that the unchanged line counts as; few rows then change little."""

NEWTON_STEPS = 20


def recalibrate(model: DIN, loader: Loader) -> None:
    """Set ``model.share`` and ``model.calibration`` by a loader's rows, over all ranks.

    The share is the least whose loss on pairs of a clicked and an unclicked row of one user is
    within one standard error of the best (Breiman et al., Classification and Regression Trees,
    1984, section 3.4.3). A small log cannot tell whether what the model adds ranks a user's items
    better, and popularity is the safer answer. On a large log the error vanishes. Pairs ignore what
    is equal for all rows of a user, as a ranking does.

    The line is Platt scaling; it keeps the order of logits. The model trains without share and
    line, and applies both in evaluation, in scoring and in exports.
    """
    popularity, added, labels, weights, users = _rows(model, loader)
    share = _share(popularity, added, labels, users)
    model.share.fill_(share)
    model.calibration.copy_(_line(popularity + share * added, labels, weights))


@torch.no_grad()  # the kernel of sharded tables does not support inference mode
def _rows(model: DIN, loader: Loader) -> tuple[Tensor, ...]:
    """Return popularity, what the model adds, label, weight and user of this rank's rows."""
    model.eval()
    device = next(model.parameters()).device
    rows = [torch.zeros(5, 0, dtype=torch.float64)]
    for part in loader.parts():
        batch = from_rows(part, model.spec)
        parts = [each.cpu() for each in model.parts(batch.to(device))]
        parts += [batch.label, batch.weight, torch.from_numpy(part.columns[model.spec.user])]
        rows.append(torch.stack([each.double() for each in parts]))
    return torch.cat(rows, 1).unbind()


def _share(popularity: Tensor, added: Tensor, labels: Tensor, users: Tensor) -> float:
    """Return the share. A user whose rows are on several ranks counts as several."""
    order = labels.argsort(stable=True)
    order = order[users[order].argsort(stable=True)]  # by user, unclicked rows first
    popularity, added, labels, users = (x[order] for x in (popularity, added, labels, users))
    _, user, rows = users.unique_consecutive(return_inverse=True, return_counts=True)
    first = rows.cumsum(0) - rows
    unclicked = torch.zeros_like(rows).index_add(0, user, (labels == 0).long())
    clicked = ((labels > 0) & (unclicked[user] > 0)).nonzero()[:, 0].repeat_interleave(PAIRS)
    drawn = torch.rand(
        len(clicked), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    of = user[clicked]
    other = first[of] + (drawn * unclicked[of]).long()
    margin = (
        popularity[clicked] - popularity[other] + SHARES[:, None] * (added[clicked] - added[other])
    )
    losses = margin.new_zeros(len(SHARES), len(rows)).index_add(1, of, F.softplus(-margin))
    total = all_reduce(torch.cat([losses.sum(1), losses.new_tensor([len(clicked)])]))
    if not total[-1]:
        return 1.0
    best = int(total[:-1].argmin())
    errors = all_reduce((losses - losses[best]).square().sum(1)).sqrt()
    return float(SHARES[int((total[:-1] - total[best] <= errors).nonzero()[0])])


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
