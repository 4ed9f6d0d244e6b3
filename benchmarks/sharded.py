"""Measure memory and speed of training a 20 million x 16 table that is sharded over two ranks.

    python -m benchmarks.sharded [--items 20000000] [--ranks 2] [--steps 50]

Each rank is a process. Its peak memory is compared with its memory after TorchRec was loaded and
before the model was built. ``half_mb`` is the table and its optimizer state (one sum of squares per
row), divided by the number of ranks. A rank also holds the row of each id, four bytes per id. The
item bias is off, because it would be another table of this length. The last line is JSON.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.training import CATEGORIES, CONFIG, SPEC, USERS, draw, write
from din_model.data.loader import File, Loader
from din_model.data.prefetch import Throughput, prefetch
from din_model.distributed import collectives
from din_model.features import FIRST_ID
from din_model.modules.din import new_model
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer
from pipelines.training.launch import LaunchConfig, on_ranks

TRAIN = TrainConfig(
    replace(CONFIG.model, item_bias=False), embedding_optimizer="adagrad",
    embedding_learning_rate=0.05, embedding_engine="sharded",
)  # fmt: skip


def peak_mb() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_ranks(written: list[tuple[str, int]], items: int) -> dict[str, list[float]]:
    """Return the memory of each rank, and the rows per second of all ranks."""
    with collectives.process_group():
        import din_model.modules.sharded_embeddings  # noqa: F401  loads TorchRec before the measurement

        before = peak_mb()
        sizes = {"user": USERS, "item": items, "category": CATEGORIES}
        id_to_row = {
            name: torch.arange(size + FIRST_ID, dtype=torch.int32) for name, size in sizes.items()
        }
        model = new_model(SPEC, TRAIN.model, id_to_row, 1, sharding=TRAIN.sharding)
        trainer, files = Trainer(model, TRAIN, {}), [File(*each) for each in written]
        reader = Loader(files, SPEC, 1024, collectives.rank(), collectives.world_size(), seed=1)
        start = time.perf_counter()
        for batch, rows in prefetch(reader.epoch(), Throughput()):
            trainer.step(batch, rows)
        speed = reader.rows / (time.perf_counter() - start)
        held = torch.tensor([before, peak_mb(), len(model.tables.weight("item")), speed])
        return dict(zip(NAMES, collectives.all_gather(held).T.round().tolist(), strict=True))


NAMES = ("before_mb", "peak_mb", "rows_held", "rows_per_s")


def measure(items: int, ranks: int, steps: int) -> dict[str, float | list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        written = write(draw(steps * 1024 * ranks, items, zipf=False), Path(folder))
        found = on_ranks(
            LaunchConfig("torchrun", ranks),
            Path(folder).as_uri(),
            partial(of_ranks, written, items),
        )
    table = items * (SPEC["item"].dimension + 1) * 4 / 2**20
    return {"table_and_state_mb": round(table), "half_mb": round(table / ranks), **found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=20_000_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    words = parser.parse_args()
    print(json.dumps(measure(words.items, words.ranks, words.steps)))
