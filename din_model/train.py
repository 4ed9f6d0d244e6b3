"""The training step and the loop around it; the same code on one process and on many ranks."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from din_model.ahead import Pace, read_ahead
from din_model.batch import Batch, from_columns
from din_model.config import Section
from din_model.distributed import gather, rank, sum_gradients
from din_model.memory import keep_freed
from din_model.metrics import Meter
from din_model.model import DIN, Encoder, ModelConfig
from din_model.optim import RowAdam
from din_model.progress import track
from din_model.reader import Columns, Reader


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
        learning_rate: of the dense layers.
        embedding_learning_rate: of the tables; None: the same. A row moves only in the steps that
            touch it, so rare ids want a larger one (five to twenty times).
        regularisation: lambda of mini-batch aware regularisation; 0 is none.
        schedule: of the learning rate: ``constant``; ``cosine``, down to nothing over all epochs;
            ``plateau``, halved after an epoch that does not gain on later days.
        patience: stop after so many epochs without a gain in log loss on the window's last day,
            which is then not trained on; 0 trains all epochs on all days.
        baselines: encoders trained beside, on the same rows, to compare with; never registered.
    """

    model: ModelConfig = ModelConfig()
    window: int = 7
    start: Literal["scratch", "champion"] = "scratch"
    epochs: int = 1
    batch_size: int = 1024
    learning_rate: float = 1e-3
    embedding_learning_rate: float | None = None
    min_count: int = 1
    new_as_unknown: float = 0.5
    regularisation: float = 0.0
    seed: int = 2019
    threads: int = 0
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    patience: int = 0
    baselines: tuple[Encoder, ...] = ()

    def __post_init__(self) -> None:
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule plateau looks at later days: set patience")


Log = Callable[[dict[str, float], int], None]


class Trainer:
    """A model with its two optimizers.

    Torch's own for dense parameters, RowAdam for touched rows; both are given the gradient of
    the mean loss over the *global* rows of a step, however these lie on the ranks.
    """

    def __init__(self, model: DIN, config: TrainConfig, examples: dict[str, Tensor]) -> None:
        """``examples``: n_j of each row; see din_model.embeddings.examples_of_rows."""
        keep_freed()
        self.model = model
        self.rate = config.learning_rate
        rows_rate = config.embedding_learning_rate
        self.rows_rate = self.rate if rows_rate is None else rows_rate
        self.dense = torch.optim.Adam(model.parameters(), lr=self.rate, fused=True)
        self.rows = RowAdam(model.tables, self.rows_rate, examples, config.regularisation)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def set_rate(self, share: float) -> float:
        """Set both learning rates to a share of the configured ones; return the dense one's."""
        self.rows.lr = self.rows_rate * share
        for group in self.dense.param_groups:
            group["lr"] = self.rate * share
        return self.rate * share

    def step(self, batch: Batch, global_rows: int) -> Tensor:
        """Take one step; return this rank's share of the global mean loss."""
        self.model.train()
        logits = self.model(batch)
        each = F.binary_cross_entropy_with_logits(logits, batch.label, reduction="none")
        loss = (each * batch.weight).sum() / global_rows
        self.dense.zero_grad()
        loss.backward()
        sum_gradients(self.model.parameters())
        self.rows.step()
        self.dense.step()
        return loss.detach()


def fit(
    trainer: Trainer, reader: Reader, config: TrainConfig, log: Log, later: Reader | None = None
) -> int:
    """Train for all epochs, or until rows ``later`` than training's gain no more; return epochs.

    With ``later`` the weights of its best epoch (log loss) are kept.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    steps, pace, told = 0, Pace(), dict[str, float]()
    every = max(1, reader.steps * config.epochs // 100)
    best, kept, share, waited = math.inf, trainer.model.state_dict(), 1.0, 0
    for epoch in range(config.epochs):
        batches: Iterator[tuple[Batch, int]] = read_ahead(reader.epoch(epoch), pace)
        title = f"epoch {epoch + 1} of {config.epochs}"
        if rank() == 0:
            batches = track(batches, reader.steps, title, told)
        for batch, global_rows in batches:
            rate = trainer.set_rate(share * _cosine(config, steps, reader.steps))
            loss = trainer.step(batch.to(trainer.device), global_rows)
            steps, pace.rows = steps + 1, pace.rows + global_rows
            if steps % every == 0:
                mean = float(gather(loss[None]).sum())
                if not math.isfinite(mean):
                    raise FloatingPointError(f"loss is {mean} at step {steps}: lower learning_rate")
                told |= {"loss": mean, "learning_rate": rate, **pace.take()}
                log(dict(told), steps)
        if later is None:
            continue
        found = evaluate(trainer.model, later)["log_loss"]
        log({"later_loss": found}, steps)
        if found < best:
            best, waited = found, 0
            kept = {n: t.clone() for n, t in trainer.model.state_dict().items()}
            continue
        waited, share = waited + 1, share / 2 if config.schedule == "plateau" else share
        if waited == config.patience:
            break
    if later is not None:
        trainer.model.load_state_dict(kept)
    return epoch + 1


def evaluate(model: DIN, reader: Reader) -> dict[str, float]:
    """Metrics (see din_model.metrics.Meter) of all rows of all ranks, GAUC apart."""
    with Meter(by_user=False) as meter:
        for columns, score in scored(model, reader):
            meter.add(columns["label"], score)
        return meter.result()


def _cosine(config: TrainConfig, step: int, steps_an_epoch: int) -> float:
    """What the learning rate is multiplied by: half a cosine from 1 to 0 over the training."""
    if config.schedule != "cosine":
        return 1.0
    return (1 + math.cos(math.pi * step / (steps_an_epoch * config.epochs))) / 2


@torch.inference_mode()
def scored(model: DIN, reader: Reader) -> Iterator[tuple[Columns, np.ndarray]]:
    """Yield the columns that this rank reads and their scores (probabilities [B]), by batches."""
    model.eval()
    device = next(model.parameters()).device
    for columns in reader.chunks():
        batch = from_columns(columns, model.spec)
        yield columns, torch.sigmoid(model(batch.to(device))).cpu().numpy()
