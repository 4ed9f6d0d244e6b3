"""The training step, equal on one process and on many ranks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from din_model.data.batch import Batch
from din_model.distributed.collectives import all_reduce_gradients, world_size
from din_model.distributed.malloc import keep_freed_blocks
from din_model.modules.attention import ActivationUnit
from din_model.modules.din import DIN
from din_model.training.any_precision import AnyPrecisionAdamW
from din_model.training.config import TrainConfig
from din_model.training.rowwise_optimizers import RowOptimizer
from din_model.training.slow_momentum import SlowMomentumOptimizer, average, slow_momentum


class Trainer:
    """A model with its two optimizers.

    Torch's optimizer updates the dense parameters, RowOptimizer the touched rows. Both use the
    gradient of the mean loss over the *global* rows of a step, however these are distributed over
    the ranks.
    """

    def __init__(self, model: DIN, config: TrainConfig, examples: dict[str, Tensor]) -> None:
        """``examples``: n_j of each row; see modules.embeddings.examples_of_rows."""
        keep_freed_blocks()
        self.model = model
        for module in model.modules():
            if isinstance(module, ActivationUnit):
                module.low_precision = config.bfloat16
        self.rate, self.rows_rate = config.learning_rate, config.rows_rate
        self.local_sgd_period = config.local_sgd_period if world_size() > 1 else 0
        self.dense = _dense_optimizer(list(model.parameters()), config, self.local_sgd_period)
        self.rows = model.tables.shards or RowOptimizer(
            model.tables, config.rows_rate, examples, config.regularisation,
            config.embedding_optimizer,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    def set_rate(self, share: float) -> float:
        """Set both learning rates to a share of the configured ones; return the dense rate."""
        self.rows.lr = self.rows_rate * share
        for group in self.dense.param_groups:
            group["lr"] = self.rate * share
        return self.rate * share

    @property
    def rank_local(self) -> bool:
        """Whether the state of this rank differs from that of the others."""
        return self.local_sgd_period > 0 or self.model.tables.shards is not None

    def state(self) -> dict[str, Tensor]:
        """Return the live tensors to resume from: weights, statistics, rows, optimizer state."""
        tensors = {f"rows.{name}": t for name, t in self.rows.rows.items()}
        for name, tensor in self.model.state_dict().items():
            if not name.startswith("tables."):
                tensors[f"model.{name}"] = tensor
        for name, p in self.model.named_parameters():
            tensors |= {f"dense.{name}:{key}": t for key, t in self.dense.state[p].items()}
        return tensors | {f"slow.{n}": t for n, t in getattr(self.dense, "slow", {}).items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Copy in what ``state`` returned."""
        for name, p in self.model.named_parameters():
            keys = (n.partition(":")[2] for n in state if n.startswith(f"dense.{name}:"))
            self.dense.state[p] = {key: state[f"dense.{name}:{key}"] for key in keys}
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def synchronize(self) -> None:
        """Average the dense layers over the ranks, if they train independently."""
        if self.local_sgd_period:
            average(list(self.model.parameters()))

    def step(self, batch: Batch, global_rows: int) -> Tensor:
        """Take one step; return this rank's share of the global mean loss."""
        self.model.train()
        logits = self.model(batch)
        losses = F.binary_cross_entropy_with_logits(logits, batch.label, reduction="none")
        loss = (losses * batch.weight).sum() / global_rows
        self.dense.zero_grad()
        loss.backward()
        if not self.local_sgd_period:
            all_reduce_gradients(self.model.parameters())
        self.rows.step()
        self.dense.step()
        return loss.detach()


def _dense_optimizer(
    parameters: list[nn.Parameter], config: TrainConfig, local_sgd_period: int
) -> torch.optim.Optimizer | SlowMomentumOptimizer:
    base: torch.optim.Optimizer
    if config.dense_optimizer == "anyprecision":
        base = AnyPrecisionAdamW(
            parameters, lr=config.learning_rate, use_kahan_summation=True,
            momentum_dtype=torch.bfloat16, variance_dtype=torch.bfloat16,
        )  # fmt: skip
    else:
        base = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    return slow_momentum(base, local_sgd_period) if local_sgd_period else base
