"""A small contract, batches made for it, and real ranks."""

import os
import platform
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from din_model.data.batch import Batch, from_columns
from din_model.distributed import collectives
from din_model.features import Feature, FeatureSpec, History
from din_model.modules.din import DIN, ModelConfig, new_model

LENGTH = 6


def small_spec() -> FeatureSpec:
    return FeatureSpec(
        user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
        features=(
            Feature("user", "user", "string", "user", 4),
            Feature("item", "item", "int64", "item", 8),
            Feature("tags", "item", "string", "tags", 3, max_length=4),
        ),
        histories=(History("clicks", LENGTH, 0, {"item": "item"}),),
    )  # fmt: skip


def some_columns(rows: int, seed: int = 0, empty: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = np.zeros(rows, int) if empty else rng.integers(0, LENGTH + 1, rows)
    tags = rng.integers(0, 5, rows)
    return {
        "label": rng.integers(0, 2, rows).astype(np.float32),
        "user": rng.integers(0, 20, rows),
        "item": rng.integers(0, 30, rows),
        "tags": rng.integers(2, 9, (rows, 4)),
        "tags__length": np.minimum(tags, 4),
        "clicks__item": rng.integers(2, 30, (rows, LENGTH))
        * (np.arange(LENGTH) < lengths[:, None]),
        "clicks__length": lengths,
    }


def few_items(rows: int = 60) -> dict[str, np.ndarray]:
    """Draw behaviours that often have the candidate's id, the unknown one too."""
    columns = some_columns(rows)
    inside = np.arange(LENGTH) < columns["clicks__length"][:, None]
    items = np.random.default_rng(1).integers(1, 4, (rows, LENGTH + 1))
    return columns | {"item": items[:, 0], "clicks__item": items[:, 1:] * inside}


def some_batch(rows: int, seed: int = 0, empty: bool = False) -> Batch:
    return from_columns(some_columns(rows, seed, empty), small_spec())


def some_model(**config: object) -> DIN:
    rows = {"user": 20, "item": 30, "tags": 9}
    id_to_row = {name: torch.arange(n, dtype=torch.int32) for name, n in rows.items()}
    settings = {"attention": (8, 4), "tower": (10,)} | config
    model = new_model(small_spec(), ModelConfig(**settings), id_to_row, seed=3)  # type: ignore[arg-type]
    draw_output(model)
    return model


def draw_output(model: DIN) -> None:
    """Draw the tower's output as training would, so that every layer affects the logits."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        torch.nn.init.xavier_uniform_(model.tower[-1].weight)


def ones(model: DIN) -> dict[str, torch.Tensor]:
    """n_j = 1 for every row."""
    return {name: torch.ones(len(model.tables.weight(name))) for name in ("user", "item", "tags")}


@pytest.fixture
def spec() -> FeatureSpec:
    return small_spec()


def join(rank, port, together):
    """As torchrun would start a rank, on one machine (``together``) or as if on another."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2" if together else "1"}
    collectives.connect()
    assert (collectives._shared is not None) == (together and platform.machine() == "x86_64")
    collectives.barrier()
    maps = [m for m in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/din-" in m]
    assert all(m.endswith("(deleted)") for m in maps), "it would be left behind by a killed rank"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def threads_of_gloo() -> list[str]:
    """None where the group has ended; one that outlives it now and then aborts a rank."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]
