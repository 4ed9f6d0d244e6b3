"""What every tower is made of: Dice and the other activations, and the MLP."""

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
        mean, variance = self.mean, self.variance
        if self.training:
            count = sum_over_ranks(x.new_tensor([len(x)]))
            if count > 0:
                mean = sum_over_ranks(x.sum(0)) / count
                variance = sum_over_ranks((x - mean).square().sum(0)) / count
                self._remember(mean, variance)
        gate = torch.sigmoid((x - mean) * torch.rsqrt(variance + self.eps))
        return x * (self.alpha + (1 - self.alpha) * gate)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        # An average of all steps at first, so that a short training is not tied to its start.
        self.steps += 1
        share = max(self.momentum, 1 / float(self.steps))
        self.mean.lerp_(mean.detach(), share)
        self.variance.lerp_(variance.detach(), share)


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
