"""Measure the three ways in which the activation unit scores pairs, by candidates per history.

    python -m benchmarks.paths [--dimension 32] [--length 50] [--rounds 15]
    ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 python -m …

The control is the plain path: all pairs of a batch at once, as in training. Beside it: in parts,
each pair with its own product (``parts``), with the behaviours' terms shared (``shared``), one
history at a time (``history``), and what the model chooses (``chosen``). One thread; every round
runs all of them, and the shortest time of each counts. The last line is JSON: candidates per
history -> way -> its time relative to the plain path's.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
import torch.nn.functional as F

from din_model.data.batch import Histories
from din_model.modules import attention
from din_model.modules.attention import AttentivePooling
from din_model.modules.segments import pairs_of

ROWS = 2048
"""Candidates of a batch, as in the scoring UDF."""

NEVER = 1 << 60
WAYS = {"parts": (NEVER, NEVER), "shared": (1, NEVER), "history": (1, 1)}
"""Name -> the two thresholds of the model that choose this way."""

Run = Callable[[], object]


def ways_of(pooling: AttentivePooling, users: int, candidates: int, length: int) -> dict[str, Run]:
    """Return the ways of scoring one drawn batch; each pairs its rows anew."""
    lengths = torch.randint(0, 2 * length, (users,)).clamp(max=length)
    histories = Histories({}, F.pad(lengths.cumsum(0), (1, 0)))
    history_of = torch.arange(users).repeat_interleave(candidates)
    dimension = pooling.unit.first.in_features // 4
    query, keys = (torch.randn(n, dimension) for n in (len(history_of), int(lengths.sum())))

    def pooled() -> object:
        return pooling(query, keys, pairs_of(histories, history_of))

    def chosen_by(shared: int, group: int) -> object:
        with mock.patch.multiple(attention, MIN_SHARED=shared, MIN_GROUP=group):
            return pooled()

    def plain() -> object:
        return pooling.pool_pairs(query, keys, pairs_of(histories, history_of), None)

    ways: dict[str, Run] = {"plain": plain, "chosen": pooled}
    return ways | {name: partial(chosen_by, *limits) for name, limits in WAYS.items()}


@torch.inference_mode()
def measure(dimension: int, length: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return times relative to the plain path's."""
    torch.manual_seed(0)
    pooling = AttentivePooling(dimension, (64, 16), "dice", softmax=True).eval()
    found = {}
    for candidates in (1, 2, 4, 8, 20, 50, 100, 500):
        ways = ways_of(pooling, max(1, ROWS // candidates), candidates, length)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - start)
        plain = min(taken.pop("plain"))
        found[str(candidates)] = {n: round(min(each) / plain, 2) for n, each in taken.items()}
        print(f"{candidates} candidates: plain {plain * 1e3:.1f} ms, {found[str(candidates)]}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dimension", type=int, default=32)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(arguments.dimension, arguments.length, arguments.rounds)))
