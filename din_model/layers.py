"""What every tower is made of: Dice and the other activations, and the MLP."""

from typing import Any

import torch
from torch import Tensor, nn

from din_model.distributed import sum_over_ranks


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
            gate = torch.sigmoid((x - self.mean) * torch.rsqrt(self.variance + self.eps))
            return x * (self.alpha + (1 - self.alpha) * gate)
        out, count, mean, variance = _DiceOfBatch.apply(x, self.alpha, self.eps)
        if count > 0:
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
    it costs; autograd would take more than twice as many.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = sum_over_ranks(x.new_tensor([len(x)]))
        mean = sum_over_ranks(x.sum(0)) / count.clamp(min=1)
        gate = x - mean
        variance = sum_over_ranks((gate * gate).sum(0)) / count.clamp(min=1)
        inverse = torch.rsqrt(variance + eps)
        gate.mul_(inverse).sigmoid_()
        ctx.save_for_backward(x, gate, alpha, count, mean, inverse)
        ctx.mark_non_differentiable(count, mean, variance)
        return torch.addcmul(alpha, gate, 1 - alpha).mul_(x), count, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        x, gate, alpha, count, mean, inverse = ctx.saved_tensors
        keep, of_product = 1 - alpha, gradient * x
        # With z the normalised x and d out / d z = keep * of_z:
        of_z = torch.ops.aten.sigmoid_backward(of_product, gate)
        of_alpha = of_product.sum(0) - of_product.mul_(gate).sum(0)
        sums = torch.stack([of_z.sum(0), torch.mul(of_z, x, out=of_product).sum(0)])
        total, along_x = sum_over_ranks(sums) * keep * inverse / count.clamp(min=1)
        along_z = (along_x - mean * total) * inverse  # the mean of of_z * z, over the deviation
        # dx = gradient * (alpha + keep * gate) + inverse * (keep * of_z) less its two projections.
        of_x = torch.addcmul(mean * along_z * inverse - total, x, -along_z * inverse)
        of_x.addcmul_(of_z, keep * inverse)
        of_x.addcmul_(gradient, torch.addcmul(alpha, gate, keep))
        return of_x, of_alpha, None


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
