"""Local SGD with slow momentum over two real ranks."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from din_model.distributed import collectives
from din_model.training.slow_momentum import SlowMomentumOptimizer


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
def test_two_ranks_follow_the_formula_of_slow_momentum(tmp_path, every, factor):
    mp.spawn(rank_main, (every, factor, str(tmp_path)), nprocs=2)


def test_torchdistx_is_not_imported():
    code = "import din_model.training.loop, sys; assert 'torchdistx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_learning_rate_of_zero_takes_no_slow_step():
    w = nn.Parameter(torch.arange(3.0))
    optimizer = SlowMomentumOptimizer(torch.optim.SGD([w], lr=0.0), slowmo_freq=1)
    w.grad = torch.ones(3)
    optimizer.step()  # the end of a cosine: the distance would be divided by zero
    assert w.tolist() == [0, 1, 2]
    assert optimizer.slow["momentum"].tolist() == [0, 0, 0]
