"""AdamW with bfloat16 state and Kahan summation."""

import pytest
import torch
from torch import nn

from din_model.training.any_precision import AnyPrecisionAdamW


def quadratic(optimizer, w, steps):
    for step in range(steps):
        w.grad = (w - torch.linspace(-1, 1, len(w))).detach() * (1 + step % 3)
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_any_precision_in_float32_equals_adamw(decay):
    ours, torchs = (nn.Parameter(torch.linspace(2, 3, 9)) for _ in range(2))
    exact = {"momentum_dtype": torch.float32, "variance_dtype": torch.float32}
    quadratic(AnyPrecisionAdamW([ours], 0.01, weight_decay=decay, **exact), ours, 50)
    quadratic(torch.optim.AdamW([torchs], 0.01, weight_decay=decay), torchs, 50)
    torch.testing.assert_close(ours, torchs)


def test_kahan_summation_keeps_steps_smaller_than_a_rounding_error():
    ends, exact = {}, (torch.float32, torch.float32)
    for kahan in (True, False):
        w = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
        optimizer = AnyPrecisionAdamW([w], 1e-4, (0.9, 0.999), 1e-8, 0.0, kahan, *exact)
        for _ in range(1000):  # each is 1e-4, and bfloat16 next to 1 knows steps of 4e-3
            w.grad = torch.ones_like(w)
            optimizer.step()
        ends[kahan] = float(w.detach())
    assert ends[False] == 1.0
    assert ends[True] == pytest.approx(0.9, abs=0.01)


def test_optimizer_state_is_bfloat16():
    w = nn.Parameter(torch.ones(5))
    bf16 = {"momentum_dtype": torch.bfloat16, "variance_dtype": torch.bfloat16}
    optimizer = AnyPrecisionAdamW([w], use_kahan_summation=True, **bf16)
    quadratic(optimizer, w, 1)
    state = optimizer.state[w]
    assert {state[n].dtype for n in ("exp_avg", "exp_avg_sq", "compensation")} == {torch.bfloat16}
