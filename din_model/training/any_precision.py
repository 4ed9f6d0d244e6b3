"""AnyPrecisionAdamW: torchdistx's if it can be imported, else the same in torch."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

try:
    from torchdistx.optimizers import AnyPrecisionAdamW
except ImportError:  # it cannot be a requirement, see docs/running.md

    class AnyPrecisionAdamW(torch.optim.Optimizer):  # type: ignore[no-redef]
        """AdamW (arXiv 1711.05101) with optional bfloat16 state and Kahan summation.

        The part of a step that is lost in rounding to the parameter's type is kept and added to the
        next step (Kahan, CACM 8, 40), so steps smaller than the rounding are not lost.
        """

        # Nine parameters: the signature of torchdistx's AnyPrecisionAdamW.
        def __init__(
            self,
            params: Iterable[nn.Parameter],
            lr: float = 1e-3,
            betas: tuple[float, float] = (0.9, 0.999),
            eps: float = 1e-8,
            weight_decay: float = 0.0,
            use_kahan_summation: bool = False,
            momentum_dtype: torch.dtype = torch.float32,
            variance_dtype: torch.dtype = torch.bfloat16,
            compensation_buffer_dtype: torch.dtype = torch.bfloat16,
        ) -> None:
            super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "decay": weight_decay})
            self._dtypes = {"exp_avg": momentum_dtype, "exp_avg_sq": variance_dtype}
            if use_kahan_summation:
                self._dtypes["compensation"] = compensation_buffer_dtype

        @torch.no_grad()
        def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
            """Update all parameters that have a gradient."""
            assert closure is None
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._update(p, p.grad, group)

        def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state |= {name: torch.zeros_like(p, dtype=t) for name, t in self._dtypes.items()}
            state["step"] += 1
            steps, (b1, b2) = float(state["step"]), group["betas"]
            m, v = state["exp_avg"], state["exp_avg_sq"]
            m.lerp_(gradient.to(m.dtype), 1 - b1)
            v.lerp_(gradient.square().to(v.dtype), 1 - b2)
            p.mul_(1 - group["lr"] * group["decay"])
            spread = v.to(p.dtype).sqrt() / (1 - b2**steps) ** 0.5 + group["eps"]
            change = m.to(p.dtype) / spread * (-group["lr"] / (1 - b1**steps))
            if "compensation" not in state:
                p.add_(change)
                return
            lost, before = state["compensation"], p.clone()
            lost.add_(change)
            p.add_(lost)
            lost.add_(before - p)
