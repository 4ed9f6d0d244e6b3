"""What every tower is made of: Dice and the other activations, and the MLP."""

from typing import Any

import torch
from torch import Tensor, nn

from din_model.distributed.collectives import all_gather, all_reduce


class Dice(nn.Module):
    """Data adaptive activation (arXiv 1706.06978, section 5.2), eps 1e-8 as there.

    In training, mean and variance are those of all real positions of the *global* batch: padding
    does not exist, and ranks add up their sums. So a batch split over ranks, however unevenly,
    trains like the whole. Scoring uses running averages of the same statistics.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, size: int, eps: float = 1e-8, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("steps", torch.zeros(()))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.alpha)
        nn.init.zeros_(self.mean)
        nn.init.ones_(self.variance)
        nn.init.zeros_(self.steps)

    def forward(self, x: Tensor) -> Tensor:
        """[positions, size] -> [positions, size]."""
        if not self.training:
            inverse = torch.rsqrt(self.variance + self.eps)
            gate = torch.addcmul(-self.mean * inverse, x, inverse).sigmoid_()
            return torch.addcmul(self.alpha, gate, 1 - self.alpha).mul_(x)
        out, count, mean, variance = _DiceOfBatch.apply(x, self.alpha, self.eps)
        if count[0] > 0:
            self._remember(mean, variance)
        return out

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        # An average of all steps at first, so that a short training is not tied to its start.
        self.steps += 1
        share = max(self.momentum, 1 / float(self.steps))
        self.mean.lerp_(mean.detach(), share)
        self.variance.lerp_(variance.detach(), share)


class _DiceOfBatch(torch.autograd.Function):
    """Dice by the statistics of the global batch, with its derivative written out.

    The activation unit runs it over every (row, behaviour) pair, where passes over memory are what
    it costs: autograd would take more than three times as many.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = len(x)
        own_mean, own_variance = alpha.new_zeros(2, x.shape[1])  # of float32, whatever x is of
        if rows:
            own_mean, own_variance = torch.batch_norm_update_stats(x, own_mean, own_variance, 0.0)
        own = torch.stack([torch.full_like(own_mean, rows), own_mean, own_variance])
        counts, means, variances = all_gather(own).unbind(1)  # each [ranks, size]
        count = counts.sum(0)
        n = count.clamp(min=1)
        mean = (means * counts).sum(0) / n
        variance = ((variances + (means - mean).square()) * counts).sum(0) / n
        inverse = torch.rsqrt(variance + eps)
        gate = _affine(x, inverse, -mean * inverse).sigmoid_()
        slope = _affine(gate, 1 - alpha, alpha)
        ctx.save_for_backward(x, gate, slope, alpha, count, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(count, mean, variance)
        return slope * x, count, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        x, gate, slope, alpha, count, mean, variance = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        of_product, one = gradient * x, torch.ones_like(mean)
        of_alpha = -_sums(of_product, gate, one, one, 0.0)[0]  # of_product * (1 - gate)
        # With z the normalised x, d out / d z = (1 - alpha) * of_z:
        of_z = torch.ops.aten.sigmoid_backward(of_product, gate, grad_input=of_product)
        to_x = (1 - alpha) * inverse
        sums = torch.stack(_sums(of_z, x, mean, variance, ctx.eps))
        along_z, total = all_reduce(sums) * to_x / count.clamp(min=1)
        # dx = gradient * slope + to_x * of_z less its projections on z and on 1.
        of_x = _affine(x, -along_z * inverse, mean * along_z * inverse - total)
        return of_x.addcmul_(of_z, to_x.to(x.dtype)).addcmul_(gradient, slope), of_alpha, None


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def _sums(
    gradient: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Over rows, of gradient * (x - mean) / sqrt(variance + eps), and of gradient.

    Batch norm's derivative by its own weight and bias, which takes one pass for both.
    """
    if not len(x):  # torch's own dies of it
        return torch.zeros_like(mean), torch.zeros_like(mean)
    _, along, total = torch.ops.aten.native_batch_norm_backward(
        gradient, x, None, mean, variance, None, None, False, eps, [False, True, True]
    )
    return along, total


def activation(name: str, size: int) -> nn.Module:
    """An activation by its configured name."""
    if name == "dice":
        return Dice(size)
    return {"prelu": nn.PReLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}[name]()


class MLP(nn.Sequential):
    """Linear layers of the given sizes, each followed by the activation, then one number a row."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], act: str) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(inputs, size), activation(act, size)]
            inputs = size
        super().__init__(*layers, nn.Linear(inputs, 1))
