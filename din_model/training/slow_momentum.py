"""Local SGD: ranks train the dense layers independently and average them periodically.

With slow momentum (arXiv 1910.00643, algorithm 1): every ``slowmo_freq`` steps the parameters are
averaged over the ranks, and the distance moved since the last average is the gradient of one step
of momentum. Uses torchdistx's class if it can be imported and runs (GPUs only), else torch.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from din_model.distributed.collectives import all_reduce, world_size

try:
    from torchdistx.slowmo.slowmo_optimizer import SlowMomentumOptimizer as OnGPUs
except ImportError:  # it cannot be a requirement, see docs/running.md
    OnGPUs = None


class SlowMomentumOptimizer:
    """A base optimizer, with a slow step over all ranks after every ``slowmo_freq`` steps."""

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
        """Take a step of the base optimizer and, when due, the slow step."""
        self.base.step()
        steps, before, momentum = (self.slow[name] for name in ("steps", "before", "momentum"))
        steps += 1
        if steps % self.every == 0 and (rate := self.param_groups[0]["lr"]) > 0:
            average(self.parameters)
            distance = (before - parameters_to_vector(self.parameters)) / rate
            momentum.mul_(self.factor).add_(distance)
            before.sub_(momentum, alpha=self.lr * rate)
            vector_to_parameters(before.clone(), self.parameters)


def slow_momentum(base: torch.optim.Optimizer, every: int) -> SlowMomentumOptimizer:
    """Wrap the base optimizer in the available implementation of slow momentum."""
    if OnGPUs is not None and torch.cuda.is_available():
        return OnGPUs(base, slowmo_freq=every)
    return SlowMomentumOptimizer(base, every)


@torch.no_grad()
def average(parameters: list[nn.Parameter]) -> None:
    """Set parameters to their mean over the ranks."""
    mean: Tensor = all_reduce(parameters_to_vector(parameters)) / world_size()
    vector_to_parameters(mean, parameters)
