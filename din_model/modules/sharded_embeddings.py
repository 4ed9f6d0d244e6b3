"""Tables sharded over the ranks by rows, looked up and updated where they lie, by TorchRec.

No rank holds more of a table than its share of the rows. A rank asks for the distinct rows of its
batch; TorchRec fetches them, and takes their gradients back to whoever holds them, where its
kernel (fbgemm) updates each row once in the backward pass.
"""

import logging
import warnings
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from din_model.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TorchRec 1.8 is loud about optional parts and torch's API
    try:
        from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
        from torchrec.distributed.comm_ops import set_gradient_division
        from torchrec.distributed.embedding import ShardedEmbeddingCollection
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv
        from torchrec.optim import RowWiseAdagrad
        from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
    except ImportError as error:
        raise InputError(
            f"train.embedding_engine: sharded needs TorchRec ({error}): pip install --no-deps -r"
            " constraints-torchrec.txt"
        ) from None

# What TorchRec calls in torch warns, at the first batch, of a name that will change.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

MULTIPLE = 4
"""fbgemm's rows have a multiple of so many numbers."""

OPTIMIZERS = {
    "adagrad": (RowWiseAdagrad, {"eps": 1e-8}),
    "sgd": (torch.optim.SGD, dict[str, float]()),
}


@dataclass(frozen=True)
class Shard:
    """What this rank holds of a table: rows ``first`` and following."""

    first: int
    weight: Tensor  # [n, d]
    state: list[Tensor]  # of the optimizer, each [n]


class Shards:
    """All tables of a model; a row optimizer too (see din_model.training.rowwise_optimizers.RowOptimizer)."""

    def __init__(
        self, sizes: dict[str, tuple[int, int]], rule: str, lr: float, device: torch.device
    ) -> None:
        """``sizes``: table -> (rows, d); weights are not drawn yet. Every rank takes part."""
        set_gradient_division(False)  # the loss is a mean over the global batch already
        ranks = dist.get_world_size()
        self._lr, self._widths = lr, {table: width for table, (_, width) in sizes.items()}
        optimizer, settings = OPTIMIZERS[rule]
        # A collection's tables are of one width.
        self._collections: dict[int, Any] = {}
        for padded in sorted({_padded(width) for width in self._widths.values()}):
            tables = [
                EmbeddingConfig(
                    num_embeddings=rows, embedding_dim=padded, name=t, feature_names=[t]
                )
                for t, (rows, width) in sizes.items()
                if _padded(width) == padded
            ]
            collection = EmbeddingCollection(tables=tables, device=torch.device("meta"))
            apply_optimizer_in_backward(optimizer, collection.parameters(), {"lr": lr, **settings})
            plan = construct_module_sharding_plan(
                collection, {t.name: row_wise(compute_kernel="fused") for t in tables},
                local_size=ranks, device_type=device.type, world_size=ranks,
            )  # fmt: skip
            env = ShardingEnv.from_process_group(dist.group.WORLD)
            self._collections[padded] = ShardedEmbeddingCollection(
                collection, plan, env, fused_params={}, device=device
            )

    def shard(self, table: str) -> Shard:
        """The part of a table that lies here; its tensors are the live ones."""
        collection, width = self._collection(table), self._widths[table]
        name = f"embeddings.{table}.weight"
        mine = collection.state_dict()[name].local_shards()
        state = collection.fused_optimizer.state_dict()["state"].get(name, {})
        if not mine:
            return Shard(0, torch.empty(0, width), [])
        return Shard(
            mine[0].metadata.shard_offsets[0],
            mine[0].tensor[:, :width],
            [s.local_shards()[0].tensor for s in state.values() if hasattr(s, "local_shards")],
        )

    @property
    def rows(self) -> dict[str, Tensor]:
        """This rank's weights and optimizer state, live: what a checkpoint holds."""
        shards = {table: self.shard(table) for table in self._widths}
        found = {table: shard.weight for table, shard in shards.items()}
        for table, shard in shards.items():
            found |= {f"{table}:{n}": state for n, state in enumerate(shard.state)}
        return found

    def fetch(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Table -> rows [U] of it, distinct: their weights [U, d], for a gradient to come back by.

        Every rank takes part, with rows of its own; those of a table left out are none.
        """
        found = {}
        for padded, collection in self._collections.items():
            names = [t for t, width in self._widths.items() if _padded(width) == padded]
            wanted = [rows.get(name, torch.empty(0, dtype=torch.int64)) for name in names]
            lengths = torch.tensor([len(each) for each in wanted])
            asked = KeyedJaggedTensor(keys=names, values=torch.cat(wanted), lengths=lengths)
            given = collection(asked.to(wanted[0].device)).wait()
            for name in names:
                found[name] = _Narrow.apply(given[name].values(), self._widths[name])
        return found

    @property
    def lr(self) -> float:
        """The learning rate of the next backward pass, which does the update."""
        return self._lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self._lr = rate
        for collection in self._collections.values():
            for group in collection.fused_optimizer.param_groups:
                group["lr"] = rate
            collection.fused_optimizer.step()  # nothing but to tell the kernel

    def step(self) -> None:
        """Nothing is left to do after the backward pass."""

    def _collection(self, table: str) -> Any:
        return self._collections[_padded(self._widths[table])]


def _padded(width: int) -> int:
    return lcm(width, MULTIPLE)


class _Narrow(torch.autograd.Function):
    """The first d of the kernel's columns; the gradient goes to all, d by d.

    What makes a row wide enough for the kernel are copies of it, not zeros: so the mean of a
    gradient's squares, which row-wise Adagrad goes by, is that of the d numbers.
    """

    @staticmethod
    def forward(ctx: Any, wide: Tensor, width: int) -> Tensor:
        ctx.copies = wide.shape[1] // width
        return wide[:, :width]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.repeat(1, ctx.copies), None
