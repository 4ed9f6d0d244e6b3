"""Compare reading by Petastorm with pyarrow, and training from Parquet with training from memory.

    python -m benchmarks.reader [--rows 65536]

The shapes are those of benchmarks.training, at 100,000 items. Every round runs all four, because a
machine's speed drifts; a ratio is the median of the rounds' ratios. ``waiting`` is the share of the
time that training waited for data. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.training import (
    CONFIG,
    SIZES,
    SPEC,
    THREADS,
    draw,
    seconds_of_training,
    trainer_of,
    write,
)  # fmt: skip
from din_model.data.loader import File, Loader
from din_model.data.prefetch import Throughput, prefetch

ROUNDS = 9
ITEMS = SIZES["100k"]


def seconds_with_petastorm(reader: Loader, number: int) -> float:
    start = time.perf_counter()
    rows = sum(len(columns["label"]) for columns in reader.chunks(number))
    assert rows == reader.rows
    return time.perf_counter() - start


def seconds_with_pyarrow(files: list[File], columns: list[str]) -> float:
    """Read the same columns as arrays, without shuffling and batching."""
    start = time.perf_counter()
    for file in files:
        table = pq.read_table(file.url.removeprefix("file://"), columns=columns)
        for name in columns:
            values = table.column(name).combine_chunks()
            flat = values.flatten() if hasattr(values, "flatten") else values
            assert len(np.asarray(flat).reshape(file.rows, -1)) == file.rows
    return time.perf_counter() - start


def measure(rows: int) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        written = write(draw(rows, ITEMS, zipf=False), Path(folder))
        files = [File(url, rows) for url, rows in written]
        reader, trainer = Loader(files, SPEC, CONFIG.batch_size, seed=1), trainer_of(ITEMS)
        memory, pace, waiting = list(reader.epoch()), Throughput(), list[float]()
        taken: dict[str, list[float]] = {n: [] for n in ("petastorm", "pyarrow", "memory", "file")}
        for number in range(ROUNDS + 1):
            taken["petastorm"].append(seconds_with_petastorm(reader, number))
            taken["pyarrow"].append(seconds_with_pyarrow(files, reader.columns))
            taken["memory"].append(seconds_of_training(trainer, memory))
            pace.take()
            batches = prefetch(reader.epoch(number), pace)
            taken["file"].append(seconds_of_training(trainer, batches))
            waiting.append(pace.take()["waiting"])
    # The first round warms up.
    taken = {name: each[1:] for name, each in taken.items()}
    speed = {name: rows / statistics.median(each) for name, each in taken.items()}

    def ratio(side: str, other: str) -> float:
        pairs = zip(taken[side], taken[other], strict=True)
        return round(statistics.median(b / a for a, b in pairs), 3)

    return {
        "petastorm_rows_per_s": round(speed["petastorm"]),
        "pyarrow_rows_per_s": round(speed["pyarrow"]),
        "ratio": ratio("petastorm", "pyarrow"),
        "training_from_parquet_rows_per_s": round(speed["file"]),
        "training_from_memory_rows_per_s": round(speed["memory"]),
        "ratio_training": ratio("file", "memory"),
        "waiting": round(statistics.median(waiting[1:]), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=65_536)
    print(json.dumps(measure(parser.parse_args().rows)))
