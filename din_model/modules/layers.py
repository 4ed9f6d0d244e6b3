"""Dice and the other activations, and the MLP."""

from typing import Any

import torch
from torch import Tensor, nn

from din_model.distributed.collectives import all_gather, all_reduce


class Dice(nn.Module):
    """Data adaptive activation (arXiv 1706.06978, section 5.2), with the paper's eps 1e-8.

    In training, mean and variance cover all behaviours of the *global* batch: there is no padding,
    and the ranks combine their statistics. A batch split over ranks, however unevenly, therefore
    trains like the whole batch. Evaluation uses running averages of the same statistics.
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
        """Reset alpha and the running statistics."""
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
            self._update_running(mean, variance)
        return out

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        # The first steps are averaged equally, so that a short training does not depend on step 1.
        self.steps += 1
        share = max(self.momentum, 1 / float(self.steps))
        self.mean.lerp_(mean.detach(), share)
        self.variance.lerp_(variance.detach(), share)


class _DiceOfBatch(torch.autograd.Function):
    """Dice with the statistics of the global batch and a hand-written derivative.

    The activation unit applies it to every (row, behaviour) pair, where memory passes dominate:
    autograd would need more than three times as many.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = len(x)
        own_mean, own_variance = alpha.new_zeros(2, x.shape[1])  # float32, also for bfloat16 x
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
        d_product, one = gradient * x, torch.ones_like(mean)
        d_alpha = -_sums(d_product, gate, one, one, 0.0)[0]  # sum of d_product * (1 - gate)
        # With z the normalised x: d out / d z = (1 - alpha) * d_z.
        d_z = torch.ops.aten.sigmoid_backward(d_product, gate, grad_input=d_product)
        scale = (1 - alpha) * inverse
        sums = torch.stack(_sums(d_z, x, mean, variance, ctx.eps))
        projection, total = all_reduce(sums) * scale / count.clamp(min=1)
        # d_x = gradient * slope + scale * d_z, minus its projections on z and on 1.
        d_x = _affine(x, -projection * inverse, mean * projection * inverse - total)
        return d_x.addcmul_(d_z, scale.to(x.dtype)).addcmul_(gradient, slope), d_alpha, None


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def _sums(
    gradient: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Sum over rows of gradient * (x - mean) / sqrt(variance + eps), and of gradient.

    On a CPU this is the derivative of batch norm by its weight and bias, which takes one pass for
    both. On a GPU torch does not implement that call for given statistics.
    """
    if not len(x):  # the call below crashes on empty input
        return torch.zeros_like(mean), torch.zeros_like(mean)
    if gradient.is_cuda:
        normalised = (x.float() - mean).mul_(torch.rsqrt(variance + eps))
        return normalised.mul_(gradient).sum(0), gradient.sum(0, dtype=torch.float32)
    _, projection, total = torch.ops.aten.native_batch_norm_backward(
        gradient, x, None, mean, variance, None, None, False, eps, [False, True, True]
    )
    return projection, total


def activation(name: str, size: int) -> nn.Module:
    """Return an activation by its configured name."""
    if name == "dice":
        return Dice(size)
    return {"prelu": nn.PReLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}[name]()


class MLP(nn.Sequential):
    """Linear layers of the given sizes, each with the activation, then one output per row."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], act: str) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(inputs, size), activation(act, size)]
            inputs = size
        super().__init__(*layers, nn.Linear(inputs, 1))

    def zero_output(self) -> None:
        """Let the output be zero until training changes it."""
        nn.init.zeros_(self.get_submodule(str(len(self) - 1)).get_parameter("weight"))
