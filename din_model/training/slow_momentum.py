"""Ranks that train the dense layers by themselves, and meet every so many steps.

Local SGD with slow momentum (arXiv 1910.00643, algorithm 1): every ``slowmo_freq`` steps the ranks'
parameters are averaged, and the way that their average has come since is the gradient of one step
of momentum. torchdistx's where it can be imported and can run, on GPUs; else on torch alone.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from din_model.distributed.collectives import all_reduce, world_size

try:
    from torchdistx.slowmo.slowmo_optimizer import SlowMomentumOptimizer as OnGPUs
except ImportError:  # see README: it cannot be a requirement
    OnGPUs = None


class SlowMomentumOptimizer:
    """The steps of a base optimizer, with a slow one over all ranks after ``slowmo_freq`` each."""

    def __init__(
        self,
        base_optim: torch.optim.Optimizer,
        slowmo_freq: int = 48,
        slowmo_factor: float = 0.5,
        slowmo_lr: float = 1.0,
    ) -> None:
        self.base, self.every, self.factor, self.lr = (
            base_optim, slowmo_freq, slowmo_factor, slowmo_lr,
        )  # fmt: skip
        self.param_groups, self.state = base_optim.param_groups, base_optim.state
        self.zero_grad = base_optim.zero_grad
        self.parameters = [p for group in self.param_groups for p in group["params"]]
        before = parameters_to_vector(self.parameters).detach()
        self.slow = {
            "before": before, "momentum": torch.zeros_like(before), "steps": torch.zeros(())
        }  # fmt: skip

    @torch.no_grad()
    def step(self) -> None:
        self.base.step()
        steps, before, momentum = (self.slow[name] for name in ("steps", "before", "momentum"))
        steps += 1
        if steps % self.every == 0 and (rate := self.param_groups[0]["lr"]) > 0:
            average(self.parameters)
            way = (before - parameters_to_vector(self.parameters)) / rate
            momentum.mul_(self.factor).add_(way)
            before.sub_(momentum, alpha=self.lr * rate)
            vector_to_parameters(before.clone(), self.parameters)


def slow_momentum(base: torch.optim.Optimizer, every: int) -> SlowMomentumOptimizer:
    """The base optimizer's steps, with slow momentum every so many, by whoever can."""
    if OnGPUs is not None and torch.cuda.is_available():
        return OnGPUs(base, slowmo_freq=every)
    return SlowMomentumOptimizer(base, every)


@torch.no_grad()
def average(parameters: list[nn.Parameter]) -> None:
    """Set parameters to their mean over the ranks."""
    mean: Tensor = all_reduce(parameters_to_vector(parameters)) / world_size()
    vector_to_parameters(mean, parameters)
