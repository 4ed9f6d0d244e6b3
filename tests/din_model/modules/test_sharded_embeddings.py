"""Tables partitioned over two real processes train and are read as if every rank held them all."""

from itertools import product
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from din_model.data.batch import from_columns
from din_model.distributed import collectives
from din_model.modules.din import ModelConfig, new_model
from din_model.registry.artifact import ModelMetadata, load, save
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer
from din_model.training.warm_start import copy_into
from tests.din_model.conftest import (
    free_port,
    join,
    ones,
    small_spec,
    some_columns,
    threads_of_gloo,
)

pytest.importorskip("torchrec", reason="TorchRec is not installed: make venv", exc_type=ImportError)

RULES = ("sgd", "adagrad")
STEPS, ROWS, RATE = 50, 64, 0.05
SIZES = {"user": 20, "item": 30, "tags": 9}


def id_to_row(vocabulary: str, more: int = 0) -> torch.Tensor:
    return torch.arange(SIZES[vocabulary] + more, dtype=torch.int32)


def trained(rule: str, engine: str):
    """The loss of each step of this rank, and the model."""
    config = TrainConfig(
        learning_rate=1e-3, embedding_learning_rate=RATE, embedding_optimizer=rule,
        embedding_engine=engine,
    )  # fmt: skip
    rows, settings = (
        {name: id_to_row(name) for name in SIZES},
        ModelConfig(attention=(8, 4), tower=(10,), wide=7),
    )
    model = new_model(small_spec(), settings, rows, 3, sharding=config.sharding)
    trainer, losses = Trainer(model, config, ones(model)), []
    for step in range(STEPS):
        trainer.set_rate(1 - step / STEPS)
        columns = some_columns(ROWS, seed=step)
        # Uneven shares, and now and then a rank that has nothing.
        cut = (step * 7) % (ROWS + 1)
        mine = slice(0, cut) if collectives.rank() == 0 else slice(cut, ROWS)
        batch = from_columns({n: v[mine] for n, v in columns.items()}, small_spec())
        losses.append(float(collectives.all_reduce(trainer.step(batch, ROWS))))
    return losses, model


def rank_main(rank, port, folder):
    torch.set_num_threads(1)
    join(rank, port, together=True)
    for rule in RULES:
        compare(rank, rule, f"{folder}/{rule}")
    collectives.disconnect()
    assert not threads_of_gloo()


def compare(rank, rule, folder):
    losses, whole = trained(rule, "replicated")
    found, model = trained(rule, "sharded")
    torch.testing.assert_close(torch.tensor(found), torch.tensor(losses), atol=1e-4, rtol=0)
    assert losses[-1] < losses[0]
    for table, (rows, _) in model.tables.sizes.items():
        assert len(model.tables.weight(table)) in (rows // 2, rows - rows // 2)
        read = torch.cat(list(model.tables.pieces(table)))
        # Adagrad's first step goes by the sign of a gradient, be it as small as rounding.
        torch.testing.assert_close(read, whole.tables.weight(table), atol=2e-3, rtol=1e-3)
    save(Path(folder) / "model", model, ModelMetadata("2026-11-22", "f"))
    batch = from_columns(some_columns(40, seed=9), small_spec())
    with torch.no_grad():
        torch.save(model.eval()(batch), f"{folder}/{rank}.pt")
        torch.testing.assert_close(model(batch), whole.eval()(batch), atol=2e-3, rtol=1e-3)
    older, _ = load(Path(folder) / "model")
    grown = {name: id_to_row(name, 7) for name in SIZES}
    begun = [
        new_model(small_spec(), older.config, grown, 9, sharding=sharding)
        for sharding in (None, (rule, RATE))
    ]
    for each in begun:
        copy_into(each, older, {"item": torch.arange(37) % 4})
    for table in model.tables.sizes:
        read = torch.cat(list(begun[1].tables.pieces(table)))
        assert torch.equal(read, begun[0].tables.weight(table))


def test_sharded_tables_train_like_replicated_ones(tmp_path):
    mp.spawn(rank_main, (free_port(), str(tmp_path)), nprocs=2)
    batch = from_columns(some_columns(40, seed=9), small_spec())
    for rule, rank in product(RULES, range(2)):
        alone, _ = load(tmp_path / rule / "model")
        logits = torch.load(tmp_path / rule / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(alone(batch), logits, atol=1e-6, rtol=1e-6)
