"""Two real processes on gloo against one: the global batch decides, not how it is split."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from din_model import distributed
from din_model.batch import from_columns
from din_model.train_config import TrainConfig
from din_model.trainer import Trainer
from tests.din_model.conftest import small_spec, some_columns, some_model

ROWS = 11


def trained(columns, config, rows=ROWS):
    model = some_model(**config)
    counts = {t: torch.ones(len(model.tables.weight(t))) for t in ("user", "item", "tags")}
    trainer = Trainer(model, TrainConfig(regularisation=0.1), counts)
    trainer.step(from_columns(columns, small_spec()), rows)
    moments = {f"state.{t}": state for t, state in trainer.rows.rows.items()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return moments | gradients


def rank_main(rank, cut, config, folder):
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    mine = slice(0, cut) if rank == 0 else slice(cut, ROWS)
    found = trained({n: v[mine] for n, v in some_columns(ROWS).items()}, config)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.disconnect()
    # A thread that outlives the interpreter aborts a rank whose work is done.
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads


@pytest.mark.parametrize("cut", [4, ROWS])
@pytest.mark.parametrize("config", [{"activation": "relu"}, {"activation": "dice"}])
def test_a_batch_split_over_two_ranks_trains_like_the_whole(tmp_path, cut, config):
    whole = trained(some_columns(ROWS), config)
    mp.spawn(rank_main, (cut, config, str(tmp_path)), nprocs=2)
    tolerance = 1e-6 if config["activation"] == "relu" else 1e-5
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(found[name], value, atol=tolerance, rtol=1e-4, msg=name)
