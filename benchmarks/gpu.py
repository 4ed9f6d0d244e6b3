"""Measure the training step on a GPU: rows per second, and the share of the card that it uses.

    python -m benchmarks.gpu [--steps 50] [--batch-sizes 1024 8192 65536]

The shapes are those of benchmarks.training, at 1,000,000 items drawn by Zipf's law. Batches are in
the card's memory before the clock starts, so reading is not measured. Each batch size runs in
float32 and with ``train.bfloat16``. Prints the largest difference of a logit from training on the
CPU, the rate of a large matrix product in both precisions, and per batch size: rows per second,
milliseconds per step and in kernels, TFLOP/s of the step, and peak memory. The last line is JSON.
"""

import argparse
import json
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from din_model.data.batch import Batch, from_columns
from din_model.features import FIRST_ID, Feature, FeatureSpec, History
from din_model.modules.din import ModelConfig, new_model
from din_model.modules.embeddings import assign_rows, examples_of_rows
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer

LENGTH, DIMENSION, USERS, CATEGORIES, ITEMS = 50, 16, 20_000, 1_000, 1_000_000
CONFIG = TrainConfig(ModelConfig(attention=(64, 16), tower=(200, 80), activation="dice"))
SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
    features=(
        Feature("user", "user", "int64", "user", DIMENSION),
        Feature("item", "item", "int64", "item", DIMENSION),
        Feature("category", "item", "int64", "category", DIMENSION),
    ),
    histories=(History("clicks", LENGTH, 0, {"item": "item", "category": "category"}),),
)  # fmt: skip


def draw(rows: int, seed: int) -> Batch:
    """Draw a batch of ``rows`` whose histories are 1 to 50 behaviours long."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, LENGTH + 1, rows)
    item = (ITEMS ** rng.random(rows)).astype(np.int64) - 1
    past = (ITEMS ** rng.random((rows, LENGTH))).astype(np.int64) - 1
    inside = np.arange(LENGTH) < length[:, None]
    columns: dict[str, np.ndarray[Any, Any]] = {
        "label": rng.integers(0, 2, rows).astype(np.float32),
        "user": rng.integers(0, USERS, rows) + FIRST_ID,
        "item": item + FIRST_ID,
        "category": item % CATEGORIES + FIRST_ID,
        "clicks__item": (past + FIRST_ID) * inside,
        "clicks__category": (past % CATEGORIES + FIRST_ID) * inside,
        "clicks__length": length,
    }
    return from_columns(columns, SPEC)


def new_trainer(device: torch.device, bfloat16: bool) -> Trainer:
    """Build a trainer with freshly drawn weights; equal on every device."""
    sizes = {"user": USERS, "item": ITEMS, "category": CATEGORIES}
    examples = {name: np.ones(size + FIRST_ID, np.int64) for name, size in sizes.items()}
    id_to_row = {name: assign_rows(n, 1) for name, n in examples.items()}
    model = new_model(SPEC, CONFIG.model, id_to_row, seed=1)
    model.to(device)
    n_j = {name: examples_of_rows(n, id_to_row[name]).to(device) for name, n in examples.items()}
    return Trainer(model, replace(CONFIG, bfloat16=bfloat16), n_j)


def difference_from_cpu(device: torch.device, rows: int = 4096, steps: int = 5) -> float:
    """Train on both devices; return the largest difference of a logit."""
    logits = []
    for place in (torch.device("cpu"), device):
        trainer = new_trainer(place, bfloat16=False)
        for seed in range(steps):
            trainer.step(draw(rows, seed).to(place), rows)
        trainer.model.eval()
        with torch.no_grad():
            logits.append(trainer.model(draw(rows, 99).to(place)).cpu())
    return float((logits[0] - logits[1]).abs().max())


def measure(device: torch.device, rows: int, bfloat16: bool, steps: int) -> dict[str, float]:
    """Time steps of ``rows`` one by one with device events; count their operations."""
    trainer = new_trainer(device, bfloat16)
    batches = [draw(rows, seed).to(device) for seed in range(4)]
    for batch in batches * 2:
        trainer.step(batch, rows)
    milliseconds = []
    for n in range(steps):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        trainer.step(batches[n % len(batches)], rows)
        end.record()
        torch.cuda.synchronize()
        milliseconds.append(start.elapsed_time(end))
    with profile(
        activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], with_flops=True
    ) as profiled:
        trainer.step(batches[0], rows)
        torch.cuda.synchronize()
    events = profiled.key_averages()
    median = statistics.median(milliseconds)
    busy = sum(e.self_device_time_total for e in events) / 1000
    return {
        "rows_per_s": round(rows / median * 1000),
        "ms": round(median, 3),
        "kernels_ms": round(busy, 3),
        "tflops": round(sum(e.flops for e in events) / median / 1e9, 3),
        "gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        _ = a @ b
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return 2 * 8192**3 / statistics.median(times) / 1e9


def main() -> None:
    """Run the comparison with the CPU, then every batch size in both precisions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1024, 8192, 65_536])
    words = parser.parse_args()
    device = torch.device("cuda")
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "cpu_difference": difference_from_cpu(device),
        "float32_tflops": round(ceiling(device, torch.float32), 1),
        "bfloat16_tflops": round(ceiling(device, torch.bfloat16), 1),
    }
    print(report, flush=True)
    for rows in words.batch_sizes:
        for bfloat16 in (False, True):
            name = f"{rows} {'bfloat16' if bfloat16 else 'float32'}"
            report[name] = measure(device, rows, bfloat16, words.steps)
            print(name, report[name], flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
