"""The loop around the training step, and prediction."""

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from din_model.console import track
from din_model.data.batch import Batch
from din_model.data.loader import Loader
from din_model.data.prefetch import Throughput, prefetch
from din_model.distributed.collectives import all_reduce, rank
from din_model.evaluation.evaluate import evaluate
from din_model.training.checkpoint import Checkpoints, TrainState
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer

Log = Callable[[dict[str, float], int], None]


def fit(
    trainer: Trainer,
    reader: Loader,
    config: TrainConfig,
    log: Log,
    later: Loader | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainState:
    """Train for all epochs, or until rows ``later`` than training's gain no more; say how far.

    With ``later`` the weights of its best epoch (log loss) are kept. With ``checkpoints`` it goes
    on from the newest one.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    at, kept, pace, told = TrainState(), dict[str, Tensor](), Throughput(), dict[str, float]()
    if checkpoints and (found := checkpoints.load(trainer.rank_local)):
        state, at = found
        trainer.restore(state)
        kept = {n.removeprefix("kept."): t for n, t in state.items() if n.startswith("kept.")}
        reader.pass_over(at.epoch)
    every = max(1, reader.steps * config.epochs // 100)
    for epoch in range(at.epoch, config.epochs):
        batches: Iterator[tuple[Batch, int]] = prefetch(reader.epoch(epoch, at.step), pace)
        title = f"epoch {epoch + 1} of {config.epochs}"
        if rank() == 0:
            batches = track(batches, reader.steps - at.step, title, told)
        for batch, global_rows in batches:
            rate = trainer.set_rate(at.share * _cosine(config, at.steps, reader.steps))
            loss = trainer.step(batch.to(trainer.device), global_rows)
            at.steps, at.step, pace.rows = at.steps + 1, at.step + 1, pace.rows + global_rows
            if at.steps % every == 0:
                mean = float(all_reduce(loss))
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"loss is {mean} at step {at.steps}: lower learning_rate"
                    )
                at.losses.append((at.steps, mean))
                told |= {"loss": mean, "learning_rate": rate, **pace.take()}
                log(dict(told), at.steps)
            if checkpoints and checkpoints.due(at):
                best = {f"kept.{name}": t for name, t in kept.items()}
                checkpoints.save(trainer.state() | best, at, trainer.rank_local)
        trainer.synchronize()
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


def _cosine(config: TrainConfig, step: int, steps_an_epoch: int) -> float:
    """What the learning rate is multiplied by: half a cosine from 1 to 0 over the training."""
    if config.schedule != "cosine":
        return 1.0
    return (1 + math.cos(math.pi * step / (steps_an_epoch * config.epochs))) / 2
