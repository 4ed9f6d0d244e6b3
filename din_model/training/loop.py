"""The training loop: epochs of steps, early stopping, checkpoints."""

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


def _resume(
    trainer: Trainer, loader: Loader, checkpoints: Checkpoints | None
) -> tuple[TrainState, dict[str, Tensor]]:
    """Restore the newest checkpoint, if any; return the state and the best weights so far."""
    loaded = checkpoints.load(trainer.rank_local) if checkpoints else None
    if loaded is None:
        return TrainState(), {}
    tensors, state = loaded
    trainer.restore(tensors)
    loader.pass_over(state.epoch)
    best = {n.removeprefix("kept."): t for n, t in tensors.items() if n.startswith("kept.")}
    return state, best


def _rate_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the factor of the learning rate: for ``cosine``, half a cosine from 1 to 0."""
    if config.schedule != "cosine":
        return 1.0
    return (1 + math.cos(math.pi * step / (steps_per_epoch * config.epochs))) / 2


def _mean_loss(loss: Tensor, steps: int) -> float:
    """Return the global mean loss of a step.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    mean = float(all_reduce(loss))
    if not math.isfinite(mean):
        raise FloatingPointError(f"loss is {mean} at step {steps}: lower learning_rate")
    return mean


def _improved(state: TrainState, log_loss: float, config: TrainConfig) -> bool:
    """Record a validation; return whether it is the best so far."""
    if log_loss < state.best:
        state.best, state.waited = log_loss, 0
        return True
    state.waited += 1
    state.share /= 2 if config.schedule == "plateau" else 1
    return False


# Over 50 lines with its docstring; the body is the order of one epoch's steps.
def fit(
    trainer: Trainer,
    loader: Loader,
    config: TrainConfig,
    log: Log,
    validation: Loader | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainState:
    """Train for all epochs, or until the validation rows show no more gain.

    With ``validation`` the model ends with the weights of its best epoch by log loss. With
    ``checkpoints`` the training resumes from the newest one.

    Returns:
        How far the training went.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    state, best = _resume(trainer, loader, checkpoints)
    throughput, latest = Throughput(), dict[str, float]()
    log_every = max(1, loader.steps * config.epochs // 100)
    for epoch in range(state.epoch, config.epochs):
        batches: Iterator[tuple[Batch, int]]
        batches = prefetch(loader.epoch(epoch, state.step), throughput)
        if rank() == 0:
            title = f"epoch {epoch + 1} of {config.epochs}"
            batches = track(batches, loader.steps - state.step, title, latest)
        for batch, global_rows in batches:
            rate = trainer.set_rate(state.share * _rate_factor(config, state.steps, loader.steps))
            loss = trainer.step(batch.to(trainer.device), global_rows)
            throughput.rows += global_rows
            state.steps, state.step = state.steps + 1, state.step + 1
            if state.steps % log_every == 0:
                mean = _mean_loss(loss, state.steps)
                state.losses.append((state.steps, mean))
                latest |= {"loss": mean, "learning_rate": rate, **throughput.take()}
                log(dict(latest), state.steps)
            if checkpoints and checkpoints.due(state):
                tensors = trainer.state() | {f"kept.{name}": t for name, t in best.items()}
                checkpoints.save(tensors, state, trainer.rank_local)
        trainer.synchronize()
        state.epoch, state.step = epoch + 1, 0
        if validation is None:
            continue
        log_loss = evaluate(trainer.model, validation)["log_loss"]
        log({"later_loss": log_loss}, state.steps)
        if _improved(state, log_loss, config):
            best = {n: t.clone() for n, t in trainer.model.state_dict().items()}
        elif state.waited == config.patience:
            break
    if best:
        trainer.model.load_state_dict(best)
    return state
