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
from din_model.distributed import rank, sum_gradients, sum_over_ranks, world
from din_model.memory import keep_freed
from din_model.metrics import Meter
from din_model.model import DIN, Encoder, ModelConfig
from din_model.optim import RowOptimizer, RowRule
from din_model.progress import track
from din_model.reader import Columns, Reader


@dataclass(frozen=True)
class TrainConfig(Section):
    """How a model is trained.

    Attributes:
        window: days of examples before the date that judges.
        start: ``scratch`` trains on the whole window; ``champion`` goes on from the champion with
            the days that it has not seen.
        new_items_like: with ``start: champion``, the item's feature (category) that says which rows
            a new item's row starts as the mean of; None: it starts as the unknown row.
        min_count: ids that fewer examples of the window hold read the unknown row.
        new_as_unknown: share of the ids first seen on an example's own day that read the unknown
            row there, as the next day's new ids will; see din_model.reader.
        learning_rate: of the dense layers.
        embedding_learning_rate: of the tables; None: the same. A row moves only in the steps that
            touch it, so rare ids want a larger one (five to twenty times).
        embedding_optimizer: of the tables: ``adam``, ``adagrad`` (one sum of squares a row) or
            ``sgd``.
        embedding_engine: ``replicated``: every rank has all tables; ``sharded``: each rank has its
            share of every table's rows (din_model.sharded).
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
    new_items_like: str | None = None
    epochs: int = 1
    batch_size: int = 1024
    learning_rate: float = 1e-3
    embedding_learning_rate: float | None = None
    embedding_optimizer: RowRule = "adam"
    embedding_engine: Literal["replicated", "sharded"] = "replicated"
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
        if self.embedding_engine == "sharded" and self.embedding_optimizer == "adam":
            raise ValueError("sharded tables know embedding_optimizer adagrad and sgd, not adam")
        if self.embedding_engine == "sharded" and self.regularisation:
            raise ValueError("sharded tables know no regularisation: set it to 0")

    @property
    def rows_rate(self) -> float:
        """The learning rate of the tables."""
        rate = self.embedding_learning_rate
        return self.learning_rate if rate is None else rate

    @property
    def dealt_by(self) -> tuple[str, float] | None:
        """See din_model.model.new_model; one rank alone holds all there is."""
        sharded = self.embedding_engine == "sharded" and world() > 1
        return (self.embedding_optimizer, self.rows_rate) if sharded else None


Log = Callable[[dict[str, float], int], None]


class Trainer:
    """A model with its two optimizers.

    Torch's own for dense parameters, RowOptimizer for touched rows; both get the gradient of the
    mean loss over the *global* rows of a step, however these lie on the ranks.
    """

    def __init__(self, model: DIN, config: TrainConfig, examples: dict[str, Tensor]) -> None:
        """``examples``: n_j of each row; see din_model.embeddings.examples_of_rows."""
        keep_freed()
        self.model = model
        self.rate, self.rows_rate = config.learning_rate, config.rows_rate
        self.dense = torch.optim.Adam(model.parameters(), lr=self.rate, fused=True)
        self.rows = model.tables.shards or RowOptimizer(
            model.tables, config.rows_rate, examples, config.regularisation,
            config.embedding_optimizer,
        )  # fmt: skip

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
        end_of_sum = sum_gradients(self.model.parameters())  # on its way while rows are updated
        self.rows.step()
        end_of_sum()
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
                mean = float(sum_over_ranks(loss))
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


@torch.no_grad()  # the kernel of sharded tables knows no inference mode
def scored(model: DIN, reader: Reader) -> Iterator[tuple[Columns, np.ndarray]]:
    """Yield the columns that this rank reads and their scores (probabilities [B]), by batches."""
    model.eval()
    device = next(model.parameters()).device
    for columns in reader.chunks():
        batch = from_columns(columns, model.spec)
        yield columns, torch.sigmoid(model(batch.to(device))).cpu().numpy()
