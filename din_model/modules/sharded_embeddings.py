"""Tables sharded by rows over the ranks, looked up and updated on the rank that holds them.

No rank holds more than its part of a table. A rank asks for the distinct rows of its batch;
TorchRec fetches them and returns their gradients to the holders, where its kernel (fbgemm) updates
each row once in the backward pass.
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
    warnings.simplefilter("ignore")  # TorchRec 1.8 warns about optional parts and torch's API
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

# At the first batch torch warns about a name that TorchRec uses and that will change.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

MULTIPLE = 4
"""fbgemm requires row widths that are multiples of this."""

OPTIMIZERS = {
    "adagrad": (RowWiseAdagrad, {"eps": 1e-8}),
    "sgd": (torch.optim.SGD, dict[str, float]()),
}


@dataclass(frozen=True)
class Shard:
    """This rank's part of a table: rows ``first`` and following."""

    first: int
    weight: Tensor  # [n, d]
    state: list[Tensor]  # optimizer state, each [n]


class Shards:
    """All tables of a model; also their optimizer (as training.rowwise_optimizers.RowOptimizer)."""

    def __init__(
        self, sizes: dict[str, tuple[int, int]], rule: str, lr: float, device: torch.device
    ) -> None:
        """Shard tables of ``sizes`` (table -> (rows, d)); every rank takes part.

        Weights are not drawn yet.
        """
        set_gradient_division(False)  # the loss is already a mean over the global batch
        ranks = dist.get_world_size()
        self._lr, self._widths = lr, {table: width for table, (_, width) in sizes.items()}
        optimizer, settings = OPTIMIZERS[rule]
        # All tables of a collection have one width.
        self._collections: dict[int, Any] = {}
        for padded in sorted({_padded(width) for width in self._widths.values()}):
            tables = [
                EmbeddingConfig(
                    num_embeddings=rows, embedding_dim=padded, name=_module(t), feature_names=[t]
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
        """Return this rank's part of a table; its tensors are live."""
        collection, width = self._collection(table), self._widths[table]
        name = f"embeddings.{_module(table)}.weight"
        local = collection.state_dict()[name].local_shards()
        state = collection.fused_optimizer.state_dict()["state"].get(name, {})
        if not local:
            return Shard(0, torch.empty(0, width), [])
        return Shard(
            local[0].metadata.shard_offsets[0],
            local[0].tensor[:, :width],
            [s.local_shards()[0].tensor for s in state.values() if hasattr(s, "local_shards")],
        )

    @property
    def rows(self) -> dict[str, Tensor]:
        """This rank's weights and optimizer state, live: the content of a checkpoint."""
        shards = {table: self.shard(table) for table in self._widths}
        tensors = {table: shard.weight for table, shard in shards.items()}
        for table, shard in shards.items():
            tensors |= {f"{table}:{n}": state for n, state in enumerate(shard.state)}
        return tensors

    def fetch(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fetch distinct rows: table -> rows [U] to table -> weights [U, d], with gradients.

        Every rank takes part with its own rows; a table left out has none.
        """
        weights = {}
        for padded, collection in self._collections.items():
            names = [t for t, width in self._widths.items() if _padded(width) == padded]
            rows_by_name = [rows.get(name, torch.empty(0, dtype=torch.int64)) for name in names]
            lengths = torch.tensor([len(each) for each in rows_by_name])
            request = KeyedJaggedTensor(keys=names, values=torch.cat(rows_by_name), lengths=lengths)
            response = collection(request.to(rows_by_name[0].device)).wait()
            for name in names:
                weights[name] = _Narrow.apply(response[name].values(), self._widths[name])
        return weights

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
            collection.fused_optimizer.step()  # only passes the rate to the kernel

    def step(self) -> None:
        """Do nothing: the backward pass has updated the rows."""

    def _collection(self, table: str) -> Any:
        return self._collections[_padded(self._widths[table])]


def _module(table: str) -> str:
    """Return a name that no attribute of a torch module has, unlike items or type."""
    return f"of_{table}"


def _padded(width: int) -> int:
    return lcm(width, MULTIPLE)


class _Narrow(torch.autograd.Function):
    """The first d columns of the kernel's rows; the gradient is copied to all columns.

    A row is widened by copies of itself instead of zeros, so that the mean of squared gradients,
    which row-wise Adagrad uses, is that of the d numbers.
    """

    @staticmethod
    def forward(ctx: Any, wide: Tensor, width: int) -> Tensor:
        ctx.copies = wide.shape[1] // width
        return wide[:, :width]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.repeat(1, ctx.copies), None
