"""Two real processes on gloo against one: the global batch decides, not how it is split."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from din_model.data.batch import from_columns
from din_model.distributed import collectives
from din_model.training.config import TrainConfig
from din_model.training.rowwise_optimizers import RULES
from din_model.training.trainer import Trainer
from tests.din_model.conftest import (
    free_port,
    join,
    small_spec,
    some_columns,
    some_model,
    threads_of_gloo,
)

ROWS = 11


def late(*row_and_gradient):
    np.linalg.svd(np.ones((200, 200)))  # the other rank would read on meanwhile
    RULES["adam"].update(*row_and_gradient)


LATE = RULES["adam"]._replace(update=late)


def trained(columns, config, rows=ROWS):
    model = some_model(**config)
    counts = {t: torch.ones(len(model.tables.weight(t))) for t in ("user", "item", "tags")}
    trainer = Trainer(model, TrainConfig(regularisation=0.1), counts)
    assert bool(trainer.rows.shared) == (collectives._shared is not None)
    if collectives.rank() == 1:
        trainer.rows.rule = LATE
    for _ in range(2):
        trainer.step(from_columns(columns, small_spec()), rows)
    moments = {f"state.{t}": state for t, state in trainer.rows.rows.items()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return moments | gradients


CONFIGS = {"dice": {"activation": "dice"}, "relu": {"activation": "relu"}}


def train_and_exchange(rank, port, together, folder):
    """One rank: a batch cut in two ways, then messages of every size."""
    join(rank, port, together)
    for cut in (4, ROWS):
        mine = slice(0, cut) if rank == 0 else slice(cut, ROWS)
        for name, config in CONFIGS.items():
            found = trained({n: v[mine] for n, v in some_columns(ROWS).items()}, config)
            torch.save(found, f"{folder}/{name}-{cut}-{rank}.pt")
    exchange(rank, together)
    collectives.disconnect()
    assert not threads_of_gloo()


@pytest.mark.parametrize("together", [True, False])
def test_two_ranks_train_like_one_and_exchange_messages_of_every_size(tmp_path, together):
    mp.spawn(train_and_exchange, (free_port(), together, str(tmp_path)), nprocs=2)
    for (name, config), cut, rank in product(CONFIGS.items(), (4, ROWS), range(2)):
        expected = trained(some_columns(ROWS), config)
        found = torch.load(tmp_path / f"{name}-{cut}-{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        tolerance = 1e-6 if name == "relu" else 1e-5
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=tolerance, rtol=1e-4, msg=key)


def exchange(rank, together):
    rng = np.random.default_rng(0)
    for number in range(700):
        size, late = int(rng.integers(0, 200)), int(rng.integers(0, 2))
        if late == rank:
            np.linalg.svd(np.ones((20, 20)))
        found = collectives.all_gather(torch.full((size, 3), 2.0 * number + rank))
        assert found.tolist() == [[[2.0 * number + each] * 3] * size for each in range(2)]
        lengths = [int(n) for n in rng.integers(0, 9, 2)]
        mine = torch.arange(lengths[rank]) + rank, torch.full((lengths[rank], 2), rank * 0.5)
        first, second = map(torch.cat, collectives.all_gather_jagged(list(mine)))
        assert first.tolist() == [*range(lengths[0]), *range(1, lengths[1] + 1)]
        assert second[:, 1].tolist() == [0.0] * lengths[0] + [0.5] * lengths[1]
    common = collectives.allocate_shared((2,))
    assert (common is not None) == together
    assert collectives.allocate_shared((1 << 30, 1 << 30)) is None
    for number in range(1, 500 * together):
        common[rank] = number
        collectives.shared_barrier()
        assert common.tolist() == [number] * 2
        collectives.shared_barrier()
    made = []
    ids = collectives.made_once(lambda: made.append(rank) or torch.arange(5), torch.int64)
    assert ids.tolist() == [0, 1, 2, 3, 4]
    assert len(made) == (rank == 0 or not together), "with shared memory, one rank makes it"
    one = torch.full((), 0.5 + rank).expand(1, 1)  # without a stride
    first, second = map(torch.cat, collectives.all_gather_jagged([torch.arange(1), one]))
    assert first.tolist() == [0, 0]
    assert second.tolist() == [[0.5], [1.5]]
    large = torch.arange(3 << 20, dtype=torch.float32)  # more than a staging slot holds
    assert torch.equal(collectives.all_reduce(large), 2 * large)
    assert torch.equal(collectives.all_gather(large)[1 - rank], large)
