"""The training loop: epochs of steps, early stopping, checkpoints."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

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

MAX_STEPS_UNCHECKED = 2000
"""Steps after which the validation rows are scored, however long an epoch is."""


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


def _rate_factor(config: TrainConfig, step: int, steps: int) -> float:
    """Return the factor of the learning rate: for ``cosine``, half a cosine from 1 to 0."""
    if config.schedule != "cosine":
        return 1.0
    return (1 + math.cos(math.pi * step / steps)) / 2


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
        state.best, state.best_step, state.waited = log_loss, state.steps, 0
        return True
    state.waited += 1
    state.share /= 2 if config.schedule == "plateau" else 1
    return False


def _epochs(config: TrainConfig, steps: int, validated: bool) -> int:
    """Return the maximum epochs: with validation as many as ``min_steps`` take, else ``epochs``."""
    return max(config.epochs, -(-config.min_steps // max(steps, 1))) if validated else config.epochs


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

    With ``validation`` the model is checked ``checks_per_epoch`` times an epoch, and at least every
    ``MAX_STEPS_UNCHECKED`` steps, and ends with its best weights by log loss. It does not stop
    before ``min_steps``: a model that starts at the popularity may lose at first, until it has
    learned what users like. With ``checkpoints`` the training resumes from the newest one.

    Returns:
        How far the training went.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    state, best = _resume(trainer, loader, checkpoints)
    throughput, latest = Throughput(), dict[str, float]()
    epochs = _epochs(config, loader.steps, validation is not None)
    all_steps = loader.steps * epochs
    log_every = max(1, all_steps // 100)
    check_every = min(max(1, loader.steps // config.checks_per_epoch), MAX_STEPS_UNCHECKED)
    for epoch in range(state.epoch, epochs):
        batches: Iterator[tuple[Batch, int]]
        batches = prefetch(loader.epoch(epoch, state.step), throughput)
        if rank() == 0:
            title = f"epoch {epoch + 1} of {'at most ' if validation else ''}{epochs}"
            batches = track(batches, loader.steps - state.step, title, latest)
        for batch, global_rows in batches:
            rate = trainer.set_rate(state.share * _rate_factor(config, state.steps, all_steps))
            loss = trainer.step(batch.to(trainer.device), global_rows)
            throughput.rows += global_rows
            state.steps, state.step = state.steps + 1, state.step + 1
            if state.steps % log_every == 0:
                mean = _mean_loss(loss, state.steps)
                state.losses.append((state.steps, mean))
                latest |= {"loss": mean, "learning_rate": rate, **throughput.take()}
                log(dict(latest), state.steps)
            if validation and (state.step % check_every == 0 or state.step == loader.steps):
                trainer.synchronize()
                log_loss = evaluate(trainer.model, validation)["log_loss"]
                log({"later_loss": log_loss}, state.steps)
                if _improved(state, log_loss, config):
                    best = {n: t.clone() for n, t in trainer.model.state_dict().items()}
                elif state.waited >= config.patience and state.steps >= config.min_steps:
                    trainer.model.load_state_dict(best)
                    state.epoch += state.step == loader.steps
                    return state
            if checkpoints and checkpoints.due(state):
                tensors = trainer.state() | {f"kept.{name}": t for name, t in best.items()}
                checkpoints.save(tensors, state, trainer.rank_local)
        trainer.synchronize()
        state.epoch, state.step = epoch + 1, 0
    if best:
        trainer.model.load_state_dict(best)
    return state


def finish(trainer: Trainer, loader: Loader, steps: int) -> None:
    """Take further steps, on rows that were held out for validation until now."""
    done, epoch = 0, 0
    while done < steps:
        for batch, global_rows in islice(loader.epoch(epoch), steps - done):
            trainer.step(batch.to(trainer.device), global_rows)
            done += 1
        epoch += 1
    trainer.synchronize()
