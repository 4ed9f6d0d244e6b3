"""The loop around the training step, and prediction."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from din_model.ahead import Pace, read_ahead
from din_model.batch import Batch, from_columns
from din_model.checkpoint import Checkpoints, Position
from din_model.distributed import rank, sum_over_ranks
from din_model.metrics import Meter
from din_model.model import DIN
from din_model.progress import track
from din_model.reader import Columns, Reader
from din_model.train_config import TrainConfig
from din_model.trainer import Trainer

Log = Callable[[dict[str, float], int], None]


def fit(
    trainer: Trainer,
    reader: Reader,
    config: TrainConfig,
    log: Log,
    later: Reader | None = None,
    checkpoints: Checkpoints | None = None,
) -> Position:
    """Train for all epochs, or until rows ``later`` than training's gain no more; say how far.

    With ``later`` the weights of its best epoch (log loss) are kept. With ``checkpoints`` it goes
    on from the newest one.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    at, kept, pace, told = Position(), dict[str, Tensor](), Pace(), dict[str, float]()
    if checkpoints and (found := checkpoints.load(trainer.apart)):
        state, at = found
        trainer.restore(state)
        kept = {n.removeprefix("kept."): t for n, t in state.items() if n.startswith("kept.")}
        reader.pass_over(at.epoch)
    every = max(1, reader.steps * config.epochs // 100)
    for epoch in range(at.epoch, config.epochs):
        batches: Iterator[tuple[Batch, int]] = read_ahead(reader.epoch(epoch, at.step), pace)
        title = f"epoch {epoch + 1} of {config.epochs}"
        if rank() == 0:
            batches = track(batches, reader.steps - at.step, title, told)
        for batch, global_rows in batches:
            rate = trainer.set_rate(at.share * _cosine(config, at.steps, reader.steps))
            loss = trainer.step(batch.to(trainer.device), global_rows)
            at.steps, at.step, pace.rows = at.steps + 1, at.step + 1, pace.rows + global_rows
            if at.steps % every == 0:
                mean = float(sum_over_ranks(loss))
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"loss is {mean} at step {at.steps}: lower learning_rate"
                    )
                at.losses.append((at.steps, mean))
                told |= {"loss": mean, "learning_rate": rate, **pace.take()}
                log(dict(told), at.steps)
            if checkpoints and checkpoints.due(at):
                best = {f"kept.{name}": t for name, t in kept.items()}
                checkpoints.save(trainer.state() | best, at, trainer.apart)
        trainer.meet()
        at.epoch, at.step = epoch + 1, 0
        if later is None:
            continue
        judged = evaluate(trainer.model, later)["log_loss"]
        log({"later_loss": judged}, at.steps)
        if judged < at.best:
            at.best, at.waited = judged, 0
            kept = {n: t.clone() for n, t in trainer.model.state_dict().items()}
            continue
        at.waited, at.share = at.waited + 1, at.share / (2 if config.schedule == "plateau" else 1)
        if at.waited == config.patience:
            break
    if kept:
        trainer.model.load_state_dict(kept)
    return at


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
