"""The training step and the loop around it; the same code on one process and on many ranks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from din_model.batch import Batch, from_columns
from din_model.config import Section
from din_model.distributed import gather, rank, world
from din_model.model import DIN, ModelConfig
from din_model.optim import RowAdam
from din_model.progress import track
from din_model.reader import Reader


@dataclass(frozen=True)
class TrainConfig(Section):
    """How a model is trained.

    Attributes:
        window: days of examples before the date that judges.
        start: ``scratch`` trains on the whole window; ``champion`` goes on from the champion with
            the days that it has not seen.
        min_count: ids that fewer examples of the window hold read the unknown row.
        new_as_unknown: share of the ids first seen on an example's own day that read the unknown
            row there, as the next day's new ids will; see din_model.reader.
        regularisation: lambda of mini-batch aware regularisation; 0 is none.
        baselines: encoders trained beside, on the same rows, to compare with; never registered.
    """

    model: ModelConfig = ModelConfig()
    window: int = 7
    start: Literal["scratch", "champion"] = "scratch"
    epochs: int = 1
    batch_size: int = 1024
    learning_rate: float = 1e-3
    min_count: int = 1
    new_as_unknown: float = 0.5
    regularisation: float = 0.0
    seed: int = 2019
    threads: int = 0
    baselines: tuple[Literal["din", "mean"], ...] = ()


Log = Callable[[dict[str, float], int], None]


class Trainer:
    """A model with its two optimizers.

    Dense parameters go through DDP, touched rows through RowAdam; both end up with the gradient of
    the mean loss over the *global* rows of a step, however these lie on the ranks.
    """

    def __init__(self, model: DIN, config: TrainConfig, examples: dict[str, Tensor]) -> None:
        """``examples``: n_j of each row; see din_model.embeddings.examples_of_rows."""
        self.model = model
        self.net: nn.Module = model
        if world() > 1:
            # The tables are buffers and every rank updates all of them alike: nothing to send.
            self.net = DistributedDataParallel(model, broadcast_buffers=False)
        self.dense = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        lr, regularisation = config.learning_rate, config.regularisation
        self.rows = RowAdam(model.tables, lr, examples, regularisation)

    def step(self, batch: Batch, global_rows: int) -> Tensor:
        """Take one step; return this rank's share of the global mean loss."""
        self.net.train()
        logits = self.net(batch)
        each = F.binary_cross_entropy_with_logits(logits, batch.label, reduction="none")
        loss = (each * batch.weight).sum() / global_rows
        self.dense.zero_grad()
        (loss * world()).backward()  # both optimizers average over ranks
        self.rows.step()
        self.dense.step()
        return loss.detach()


def fit(trainer: Trainer, reader: Reader, config: TrainConfig, log: Log) -> int:
    """Train for all epochs; return the number of steps taken.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    device, steps = next(trainer.model.parameters()).device, 0
    every = max(1, reader.steps * config.epochs // 100)
    for epoch in range(config.epochs):
        batches = reader.epoch(epoch)
        title = f"epoch {epoch + 1} of {config.epochs}"
        for batch, global_rows in track(batches, reader.steps, title) if rank() == 0 else batches:
            loss = trainer.step(batch.to(device), global_rows)
            steps += 1
            if steps % every == 0:
                mean = float(gather(loss[None]).sum())
                if not math.isfinite(mean):
                    raise FloatingPointError(f"loss is {mean} at step {steps}: lower learning_rate")
                log({"loss": mean}, steps)
    return steps


@torch.inference_mode()
def predict(model: DIN, reader: Reader, *extra: str) -> dict[str, np.ndarray]:
    """Score every row that the reader's ranks hold; the whole comes back on every rank.

    Returns:
        ``score`` (probability), ``label`` and each ``extra`` column, [rows].
    """
    model.eval()
    device = next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {name: [] for name in ("score", "label", *extra)}
    for columns in reader.chunks():
        batch = from_columns(columns, model.spec)
        parts["score"].append(torch.sigmoid(model(batch.to(device))).cpu())
        for name in ("label", *extra):
            parts[name].append(torch.from_numpy(np.ascontiguousarray(columns[name])))
    return {name: gather(torch.cat(part)).numpy() for name, part in parts.items()}
