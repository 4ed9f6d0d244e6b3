"""A training whose processes die goes on to the very weights that it would have had."""

import importlib.util
from dataclasses import replace
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from din_model.data.loader import File, Loader
from din_model.distributed import collectives
from din_model.errors import InputError
from din_model.modules.din import ModelConfig, new_model
from din_model.training.checkpoint import Checkpoints, TrainState
from din_model.training.config import TrainConfig
from din_model.training.loop import fit
from din_model.training.trainer import Trainer
from tests.din_model.conftest import ones, small_spec, some_columns, some_model

FILES, LATER = (70, 45, 31), 40


class DiedError(Exception):
    """In place of a process that is killed."""


def write(folder):
    for seed, size in enumerate((*FILES, LATER)):
        columns = some_columns(size, seed)
        table = pa.table({n: v.tolist() if v.ndim > 1 else v for n, v in columns.items()})
        pq.write_table(table, f"{folder}/{seed}.parquet")


def reader_of(folder, **options):
    files = [File(f"file://{folder}/{n}.parquet", size) for n, size in enumerate(FILES)]
    ranks = collectives.rank(), collectives.world_size()
    return Loader(files, small_spec(), 16, *ranks, **options)


def trained(folder, name, config, die_after=None):
    """All that a training ends with; with ``die_after`` it dies once, and another goes on."""
    checkpoints = Checkpoints(f"file://{folder}/{name}", config.checkpoint_every)
    for end in (die_after, None):
        sizes = {"user": 20, "item": 30, "tags": 9}
        id_to_row = {n: torch.arange(size, dtype=torch.int32) for n, size in sizes.items()}
        settings = ModelConfig(attention=(8, 4), tower=(10,))
        model = new_model(small_spec(), settings, id_to_row, 3, sharding=config.sharding)
        trainer, reader = Trainer(model, config, ones(model)), reader_of(folder, seed=5)
        last = File(f"file://{folder}/{len(FILES)}.parquet", LATER)
        later = Loader([last], small_spec(), 16) if config.patience else None
        step, steps = trainer.step, count()

        def mortal(*arguments, step=step, steps=steps, end=end):
            if next(steps) == end:
                raise DiedError
            return step(*arguments)

        trainer.step = mortal
        try:
            at = fit(trainer, reader, config, lambda values, step: None, later, checkpoints)
        except DiedError:
            continue
        assert reader.read == reader.due >= at.epoch * reader._rows[collectives.rank()]
        state = trainer.state() | trainer.model.state_dict()
        return {n: t.clone() for n, t in state.items()}, at, next(steps)


@pytest.mark.parametrize("die_after", [7, 10, 25])
@pytest.mark.parametrize(
    "settings",
    [
        {"regularisation": 0.1},
        {"embedding_optimizer": "adagrad", "dense_optimizer": "anyprecision"},
        {"patience": 9, "checks_per_epoch": 2, "schedule": "plateau", "learning_rate": 0.05},
        {"schedule": "cosine"},
    ],
)
def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path, settings, die_after):
    write(tmp_path)
    config = TrainConfig(**{"epochs": 4, "min_steps": 0, "patience": 0} | settings)
    config = replace(config, checkpoint_every=4)
    whole, at, _ = trained(tmp_path, "whole", config)
    found, resumed, taken = trained(tmp_path, "dies", config, die_after)
    assert resumed == at
    assert taken == at.steps - die_after // 4 * 4
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(found[name], value), name


def rank_main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    every = [{"local_sgd_period": 4}]
    if importlib.util.find_spec("torchrec"):
        every.append({"embedding_engine": "sharded"})
    for settings in every:
        config = TrainConfig(
            epochs=3, checkpoint_every=3, embedding_optimizer="adagrad", patience=0, **settings
        )
        name = next(iter(settings))
        undisturbed, _, taken = trained(folder, f"{name}-undisturbed", config)
        resumed, _, after = trained(folder, f"{name}-dies", config, 8)
        assert after == taken - 6
        for key, value in undisturbed.items():
            assert torch.equal(resumed[key], value), (name, key)
    collectives.disconnect()


def test_ranks_with_different_states_resume_their_own(tmp_path):
    write(tmp_path)
    mp.spawn(rank_main, (str(tmp_path),), nprocs=2)


def test_one_checkpoint_is_kept_and_none_when_the_training_is_done(tmp_path):
    checkpoints = Checkpoints(f"file://{tmp_path}/c", 1)
    assert checkpoints.load(own=False) is None
    for steps in (1, 2):
        at = TrainState(steps=steps, losses=[(1, 0.5)])
        checkpoints.save({"w": torch.full((2,), float(steps))}, at, own=False)
        assert len(list((tmp_path / "c").iterdir())) == 2
        tensors, found = checkpoints.load(own=False)
        assert found == at
        assert tensors["w"].tolist() == [steps, steps]
    checkpoints.remove()
    assert not (tmp_path / "c").exists()
    assert checkpoints.load(own=False) is None


def test_another_number_of_ranks_is_refused(tmp_path, monkeypatch):
    checkpoints = Checkpoints(f"file://{tmp_path}/c", 1)
    checkpoints.save({"w": torch.zeros(1)}, TrainState(), own=False)
    monkeypatch.setattr("din_model.training.checkpoint.world_size", lambda: 3)
    with pytest.raises(InputError, match="written by 1 ranks, but this training has 3"):
        checkpoints.load(own=False)


def test_a_truncated_checkpoint_is_not_resumed_from(tmp_path):
    model = some_model()
    trainer = Trainer(model, TrainConfig(), ones(model))
    checkpoints = Checkpoints(f"file://{tmp_path}/c", 1)
    checkpoints.save(trainer.state(), TrainState(steps=1), own=False)
    half = tmp_path / "c" / f"{2:012d}"
    half.mkdir()
    (half / "rank-0.safetensors").write_bytes(b"half")
    _, at = checkpoints.load(own=False)
    assert at.steps == 1
