"""Compare training DIN from Parquet with DeepCTR-Torch, on the same shapes and two threads.

    python -m benchmarks.training [--rows 65536] [--rounds 3] [--ranks 2]

The tables have 100,000, 1,000,000 and 10,000,000 items, drawn uniformly and by Zipf's law. Ours
reads through Petastorm. The peer gets its rows as arrays in memory and trains by its own ``fit``.
Each side runs in a new process, and its second epoch is timed. Every round runs all sides and
sizes, because a machine's speed drifts by a fifth within minutes; medians are compared. Ours has
Dice in the tower too, where the peer has the cheaper ReLU. The peer does not run at ten million
items, because its optimizer updates the whole table in every step. The last line is JSON.

``--ranks N`` compares N ranks of one thread each with one such rank instead, at 100,000 items.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from din_model.data.batch import Batch
from din_model.data.loader import File, Loader
from din_model.data.prefetch import Throughput, prefetch
from din_model.data.rows import Columns
from din_model.distributed import collectives
from din_model.features import FIRST_ID, Feature, FeatureSpec, History
from din_model.modules.din import ModelConfig, new_model
from din_model.modules.embeddings import assign_rows, examples_of_rows
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer
from pipelines.training.launch import LaunchConfig, on_ranks

LENGTH, DIMENSION, USERS, CATEGORIES = 50, 16, 20_000, 1_000
SIZES = {"100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
PEER_UP_TO = 1_000_000
THREADS, FILES = 2, 4
CONFIG = TrainConfig(
    ModelConfig(attention=(64, 16), tower=(200, 80), activation="dice"), batch_size=1024
)

SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
    features=(
        Feature("user", "user", "int64", "user", DIMENSION),
        Feature("item", "item", "int64", "item", DIMENSION),
        Feature("category", "item", "int64", "category", DIMENSION),
    ),
    histories=(History("clicks", LENGTH, 0, {"item": "item", "category": "category"}),),
)  # fmt: skip


def draw(rows: int, items: int, zipf: bool) -> Columns:
    """Draw examples whose histories are uniformly 1 to 50 long; ids start at 2."""
    rng = np.random.default_rng(7)

    def some(shape: tuple[int, ...]) -> NDArray[Any]:
        if not zipf:
            return rng.integers(0, items, shape)
        # The inverse of Zipf's distribution function, for an exponent of 1.
        return (items ** rng.random(shape)).astype(np.int64) - 1

    length = rng.integers(1, LENGTH + 1, rows)
    item, past = some((rows,)), some((rows, LENGTH))
    real = np.arange(LENGTH) < length[:, None]
    return {
        "label": rng.integers(0, 2, rows).astype(np.float32),
        "user": rng.integers(0, USERS, rows) + FIRST_ID,
        "item": item + FIRST_ID,
        "category": item % CATEGORIES + FIRST_ID,
        "clicks__item": (past + FIRST_ID) * real,
        "clicks__category": (past % CATEGORIES + FIRST_ID) * real,
        "clicks__length": length,
    }


def write(columns: Columns, folder: Path) -> list[tuple[str, int]]:
    """Write the columns as jobs.build_sequences does: equal files of one row group, int32 ids.

    Returns:
        Address and rows of each file.
    """
    narrow = {n: v if n == "label" else v.astype(np.int32) for n, v in columns.items()}
    table = pa.table({n: list(v) if v.ndim == 2 else v for n, v in narrow.items()})
    size, files = -(-table.num_rows // FILES), []
    for number in range(FILES):
        part = table.slice(number * size, size)
        path = folder / f"part-{number}.parquet"
        pq.write_table(part, path, row_group_size=size, compression="zstd")
        files.append((path.as_uri(), part.num_rows))
    return files


def trainer_of(items: int, spec: FeatureSpec = SPEC) -> Trainer:
    """Return the trainer of a new model with this many items."""
    sizes = {"user": USERS, "item": items, "category": CATEGORIES}
    seen = {name: np.ones(size + FIRST_ID, np.int64) for name, size in sizes.items()}
    id_to_row = {name: assign_rows(n, 1) for name, n in seen.items()}
    model = new_model(spec, CONFIG.model, id_to_row, seed=1)
    n_j = {name: examples_of_rows(n, id_to_row[name]) for name, n in seen.items()}
    return Trainer(model, CONFIG, n_j)


def seconds_of_training(trainer: Trainer, batches: Iterable[tuple[Batch, int]]) -> float:
    start = time.perf_counter()
    for batch, rows in batches:
        trainer.step(batch, rows)
    return time.perf_counter() - start


def ours(written: list[tuple[str, int]], items: int) -> float:
    """Return the rows per second of the second epoch, from Parquet."""
    files = [File(url, rows) for url, rows in written]
    trainer, reader = trainer_of(items), Loader(files, SPEC, CONFIG.batch_size, seed=1)
    for epoch in range(2):
        seconds = seconds_of_training(trainer, prefetch(reader.epoch(epoch), Throughput()))
    return reader.rows / seconds


def peer(columns: Columns, items: int) -> float:
    """Return the rows per second of the peer's second epoch, from memory."""
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # only in the peer's process
    from deepctr_torch.models.din import DIN

    shared = {"item": items, "category": CATEGORIES}
    features = [SparseFeat("user", USERS + FIRST_ID, DIMENSION)]
    features += [SparseFeat(name, size + FIRST_ID, DIMENSION) for name, size in shared.items()]
    for name, size in shared.items():
        past = SparseFeat(f"hist_{name}", size + FIRST_ID, DIMENSION, embedding_name=name)
        features.append(VarLenSparseFeat(past, LENGTH, length_name="seq_length"))
    model = DIN(
        features, ["item", "category"], dnn_hidden_units=(200, 80), att_hidden_size=(64, 16),
        att_activation="Dice", seed=1,
    )  # fmt: skip
    model.compile("adam", "binary_crossentropy")
    inputs = {name: columns[name] for name in ("user", "item", "category")}
    inputs |= {f"hist_{name}": columns[f"clicks__{name}"] for name in shared}
    inputs["seq_length"] = columns["clicks__length"]
    for _ in range(2):
        start = time.perf_counter()
        model.fit(inputs, columns["label"], batch_size=CONFIG.batch_size, epochs=1, verbose=0)
        seconds = time.perf_counter() - start
    return len(columns["label"]) / seconds


def apart(side: Callable[..., float], *arguments: Any) -> float:
    """Run a side in a new process, so that allocator and caches are not shared."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (THREADS,)) as pool:
        return pool.submit(side, *arguments).result()


def measure(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    taken: dict[str, dict[str, list[float]]] = {}
    for number, (zipf, name) in product(range(rounds), product((False, True), SIZES)):
        title, items = f"{name} zipf" if zipf else name, SIZES[name]
        columns, mine = draw(rows, items, zipf), taken.setdefault(title, {})
        with tempfile.TemporaryDirectory() as folder:
            speed = apart(ours, write(columns, Path(folder)), items)
        mine.setdefault("rows_per_s", []).append(speed)
        if items <= PEER_UP_TO:
            mine.setdefault("peer_rows_per_s", []).append(apart(peer, columns, items))
        latest = {side: round(each[-1]) for side, each in mine.items()}
        print(f"round {number + 1}, {title}: {latest}", flush=True)
    found = {}
    for title, sides in taken.items():
        found[title] = {side: float(round(statistics.median(n))) for side, n in sides.items()}
        if "peer_rows_per_s" in sides:
            ratio = found[title]["rows_per_s"] / found[title]["peer_rows_per_s"]
            found[title]["ratio"] = round(ratio, 2)
    return found


def of_ranks(written: list[tuple[str, int]], items: int) -> float:
    """Return the rows per second of the second epoch over all ranks, one thread each."""
    torch.set_num_threads(1)
    with collectives.process_group():
        files, mine = (
            [File(*each) for each in written],
            (collectives.rank(), collectives.world_size()),
        )
        trainer, reader = trainer_of(items), Loader(files, SPEC, CONFIG.batch_size, *mine, seed=1)
        for epoch in range(2):
            collectives.barrier()
            seconds = seconds_of_training(trainer, prefetch(reader.epoch(epoch), Throughput()))
        return reader.rows / seconds


def measure_ranks(rows: int, rounds: int, ranks: int) -> dict[str, float]:
    items, taken = SIZES["100k"], dict[int, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        written = write(draw(rows, items, zipf=False), Path(folder))
        work = partial(of_ranks, written, items)
        for number, count in product(range(rounds), (1, ranks)):
            config = LaunchConfig("torchrun", count)
            taken.setdefault(count, []).append(on_ranks(config, Path(folder).as_uri(), work))
            latest = round(taken[count][-1])
            print(f"round {number + 1}, {count} ranks: {latest} rows/s", flush=True)
    one, many = (statistics.median(taken[count]) for count in (1, ranks))
    return {
        "rows_per_s": round(many),
        "one_rank_rows_per_s": round(one),
        "ratio": round(many / one, 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=1)
    words = parser.parse_args()
    if words.ranks > 1:
        print(json.dumps(measure_ranks(words.rows, words.rounds, words.ranks)))
    else:
        print(json.dumps(measure(words.rows, words.rounds)))
