"""What stands in for torchdistx where it cannot be installed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from din_model.distributed import collectives
from din_model.modules import deferred_init as deferred
from din_model.training.any_precision import AnyPrecisionAdamW
from din_model.training.slow_momentum import SlowMomentumOptimizer
from tests.din_model.conftest import some_batch, some_model


def quadratic(optimizer, w, steps):
    for step in range(steps):
        w.grad = (w - torch.linspace(-1, 1, len(w))).detach() * (1 + step % 3)
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_in_full_precision_it_is_adamw(decay):
    ours, torchs = (nn.Parameter(torch.linspace(2, 3, 9)) for _ in range(2))
    exact = {"momentum_dtype": torch.float32, "variance_dtype": torch.float32}
    quadratic(AnyPrecisionAdamW([ours], 0.01, weight_decay=decay, **exact), ours, 50)
    quadratic(torch.optim.AdamW([torchs], 0.01, weight_decay=decay), torchs, 50)
    torch.testing.assert_close(ours, torchs)


def test_steps_smaller_than_a_rounding_are_not_lost():
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


def test_state_is_half_as_wide():
    w = nn.Parameter(torch.ones(5))
    bf16 = {"momentum_dtype": torch.bfloat16, "variance_dtype": torch.bfloat16}
    optimizer = AnyPrecisionAdamW([w], use_kahan_summation=True, **bf16)
    quadratic(optimizer, w, 1)
    state = optimizer.state[w]
    assert {state[n].dtype for n in ("exp_avg", "exp_avg_sq", "compensation")} == {torch.bfloat16}


def rank_main(rank, every, factor, folder):
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    w, rate, steps = nn.Parameter(torch.arange(4.0)), 0.1, 6
    slopes = np.random.default_rng(0).standard_normal((steps, 2, 4)).astype(np.float32)
    optimizer = SlowMomentumOptimizer(torch.optim.SGD([w], lr=rate), every, factor)
    each = np.tile(np.arange(4.0), (2, 1))
    before, momentum = np.arange(4.0), np.zeros(4)
    for step in range(steps):
        w.grad = torch.from_numpy(slopes[step, rank])
        optimizer.step()
        each -= rate * slopes[step]
        if (step + 1) % every == 0:
            momentum = factor * momentum + (before - each.mean(0)) / rate
            before = before - rate * momentum
            each[:] = before
        np.testing.assert_allclose(w.detach().numpy(), each[rank], atol=1e-5)
    collectives.disconnect()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("every", "factor"),
    [pytest.param(1, 0.0, marks=SLOW), (2, 0.5), pytest.param(3, 0.7, marks=SLOW)],
)
def test_ranks_meet_as_slow_momentum_says(tmp_path, every, factor):
    mp.spawn(rank_main, (every, factor, str(tmp_path)), nprocs=2)


def test_a_deferred_model_takes_no_memory_and_becomes_the_same_model():
    def build():
        return nn.Sequential(nn.Linear(2**20, 2**20), nn.Linear(3, 2))

    model = deferred.build_deferred(build)  # 4 TiB
    assert all(p.is_meta for p in model.parameters())
    ready = torch.ones(2, 3)
    model[0] = nn.Identity()
    model[1].weight = nn.Parameter(ready)
    model = deferred.materialise(model, torch.device("cpu"))
    assert model[1].weight.data_ptr() == ready.data_ptr()
    assert not model[1].bias.is_meta
    assert some_model()(some_batch(3)).shape == (3,)


def test_torchdistx_is_no_requirement():
    code = "import din_model.training.loop, sys; assert 'torchdistx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
