"""Trains a challenger on a training set, evaluates it on later rows, and registers it."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version as release_of
from pathlib import Path
from typing import Any

import numpy as np
import torch

from din_model.config import to_dict
from din_model.console import console, stage
from din_model.distributed.collectives import all_reduce, device, made_once, rank, world_size
from din_model.evaluation import plots
from din_model.evaluation.recalibration import recalibrate
from din_model.modules.din import DIN, new_model
from din_model.modules.embeddings import assign_rows, examples_of_rows
from din_model.registry import artifact, tracking, versions
from din_model.registry.model_card import model_card
from din_model.training.checkpoint import Checkpoints, TrainState
from din_model.training.config import TrainConfig
from din_model.training.loop import Log, finish, fit
from din_model.training.trainer import Trainer
from din_model.training.warm_start import copy_into
from pipelines.store.store import CHECKPOINTS, Store
from pipelines.training.evaluate import EvalResult, Metrics, baselines, evaluate_model, uncalibrated
from pipelines.training.training_set import TrainingSet

Challenge = Callable[..., tuple[int, Metrics]]
"""Returns version and metrics of a trained challenger."""

RELEASE = release_of("din-pipeline")

WEIGHT_NEUTRAL: dict[str, Any] = {"threads": 0, "baselines": (), "checkpoint_every": 0}
"""Settings that do not affect the weights."""


def train_challenger(
    store: Store,
    training_set: TrainingSet,
    config: TrainConfig,
    model_name: str,
    start: int | None = None,
) -> tuple[int, Metrics]:
    """Train, evaluate, log and register a challenger.

    A training with the same data, configuration and seed as a registered version is not repeated:
    that version is returned.

    Args:
        store: where the examples are published.
        training_set: without evaluation rows, nothing is evaluated and there are no metrics.
        config: how to train.
        model_name: registered name.
        start: version to continue from; None draws new weights.

    Returns:
        The version, and metrics by name of model and baselines.
    """
    evaluated_on = training_set.evaluation.date if training_set.evaluation else ""
    fingerprint = _fingerprint(training_set, config, start)
    if config.threads:
        torch.set_num_threads(config.threads)
    registered = versions.find(model_name, fingerprint) if rank() == 0 else None
    if version := int(all_reduce(torch.tensor([registered or 0]))):
        return version, versions.load(model_name, version)[1].metrics
    older = versions.load(model_name, start)[0] if start else None
    if rank() == 0:
        _log_inputs(store, training_set)
    checkpoints = Checkpoints(f"{store.url}/{CHECKPOINTS}/{fingerprint}", config.checkpoint_every)
    model, (due, read), state = train(store, training_set, config, _log_step, older, checkpoints)
    result = _evaluate(model, store, training_set, config) if evaluated_on else None
    metadata = artifact.ModelMetadata(
        trained_through=max(m.date for m in training_set.days),
        fingerprint=fingerprint,
        manifests=[m.id for m in training_set.days],
        rows=due,
        rows_read=read,
        metrics=result.metrics if result else {},
        logit_shift=training_set.logit_shift,
        scores=result.scores.tolist() if result else [],
    )
    version = _register(model, metadata, model_name, evaluated_on)
    checkpoints.remove()
    if rank() == 0:
        _log_training(training_set, state, result, config.model.encoder)
    return version, metadata.metrics


def _fingerprint(training_set: TrainingSet, config: TrainConfig, start: int | None) -> str:
    """Return a hash of everything that affects the weights, the release of this code included."""
    settings = to_dict(replace(config, **WEIGHT_NEUTRAL))
    parts = [RELEASE, training_set.content, settings, world_size(), start]
    parts += [] if training_set.evaluation else ["not judged"]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _log_step(metrics: dict[str, float], step: int) -> None:
    if rank() == 0:
        tracking.log_metrics(metrics, step)


def _evaluate(
    model: DIN, store: Store, training_set: TrainingSet, config: TrainConfig
) -> EvalResult:
    """Evaluate the model beside simple baselines, and beside configured encoders trained alike."""
    encoder = config.model.encoder
    beside = baselines(store, training_set, config.seed) | uncalibrated(model)
    result = evaluate_model(model, store, training_set, encoder, beside)
    for name in config.baselines:
        other = replace(config, model=replace(config.model, encoder=name))
        baseline, *_ = train(store, training_set, other, lambda *_: None)
        result.metrics.update(evaluate_model(baseline, store, training_set, name).metrics)
    return result


def _log_training(
    training_set: TrainingSet, state: TrainState, result: EvalResult | None, encoder: str
) -> None:
    """Log metrics and plots with the active run."""
    tracking.log_figure(plots.training_curve(state.losses, training_set.base_rate), "training")
    if result is None:
        return
    for name, values in result.metrics.items():
        tracking.log_metrics({f"{name.replace(' ', '_')}.{k}": v for k, v in values.items()})
    tracking.log_figure(
        plots.calibration_curve(result.tallies[encoder].calibration()), "calibration"
    )


def train(
    store: Store,
    training_set: TrainingSet,
    config: TrainConfig,
    log: Log,
    older: DIN | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[DIN, tuple[int, int], TrainState]:
    """Return the trained model, rows by the manifests and rows read, and how far training went.

    Both count the complete epochs of all ranks.
    """
    model, n_j = _prepare(store, training_set, config, older)
    reader = training_set.training_loader(store, config)
    validation = training_set.validation_loader(store)
    with stage(f"train {config.model.encoder}") as report:
        trainer = Trainer(model, config, n_j)
        state = fit(trainer, reader, config, log, validation, checkpoints)
        due, read = map(int, all_reduce(torch.tensor([reader.due, reader.read])))
        report.rows, report.note = read, f"in {state.steps:,} steps"
    newest = training_set.newest_loader(store, config)
    if validation and newest:
        if state.best_step == state.steps and rank() == 0:
            console.print(
                "  the log loss on the newest rows was still falling at the last step: raise"
                " train.epochs"
            )
        recalibrate(model, validation)
        passes = state.best_step / reader.steps
        finish(Trainer(model, config, n_j), newest, round(passes * newest.steps))
    return model, (due, read), state


def _prepare(
    store: Store, training_set: TrainingSet, config: TrainConfig, older: DIN | None
) -> tuple[DIN, dict[str, torch.Tensor]]:
    """Return a freshly drawn or continued model, and n_j of its rows, if they are regularised."""
    spec, id_to_row, n_j = training_set.spec, dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for v in spec.dimensions:
        before = older.tables.id_to_row(v) if older else None
        rows = partial(_rows_of_ids, store, training_set, config.min_count, v, before)
        id_to_row[v] = made_once(rows, torch.int32)
        if config.regularisation:
            examples = partial(_examples_of_rows, store, training_set, v, id_to_row[v])
            n_j[v] = made_once(examples, torch.float32).to(device())
    model = new_model(
        spec, config.model, id_to_row, config.seed, device(), config.sharding, training_set.vectors
    )
    if older is None:
        model.measure(
            training_set.numbers(store, config),
            training_set.base_rate,
            training_set.popularity_weight,
        )
    else:
        item, feature = spec[spec.item].vocabulary, config.new_item_init_from
        groups = (
            {item: torch.from_numpy(training_set.values_of_items(store, feature))}
            if feature
            else {}
        )
        copy_into(model, older, groups)
    return model, n_j


def _rows_of_ids(
    store: Store, training_set: TrainingSet, min_count: int, vocabulary: str,
    before: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Return the row of each id; every bucket of a number has one, however rare."""
    numbers = {f.vocabulary for f in training_set.spec.features if f.type == "number"}
    if vocabulary in numbers:
        return assign_rows(
            np.full(training_set.id_counts.sizes[vocabulary], min_count), min_count, before
        )
    return assign_rows(training_set.id_counts.examples(store, vocabulary), min_count, before)


def _examples_of_rows(
    store: Store, training_set: TrainingSet, vocabulary: str, id_to_row: torch.Tensor
) -> torch.Tensor:
    return examples_of_rows(training_set.id_counts.examples(store, vocabulary), id_to_row)


def _log_inputs(store: Store, training_set: TrainingSet) -> None:
    """Log which runs are read, which jobs.vacuum then keeps."""
    uses = {
        "training": training_set.days,
        "judging": [training_set.evaluation] if training_set.evaluation else [],
    }
    for use, manifests in uses.items():
        for m in manifests:
            tracking.log_examples(m.date, f"{store.url}/{m.name}/date={m.date}", m.run, use)


def _register(model: DIN, metadata: artifact.ModelMetadata, name: str, evaluated_on: str) -> int:
    """Register the model on rank 0; return its version on every rank."""
    version = 0
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder), model, metadata)
        if rank() == 0:
            tags = {"trained_through": metadata.trained_through, "judged_on": evaluated_on}
            version = versions.register(name, Path(folder), metadata.fingerprint, tags)
            card = model_card(name, version, model, metadata, evaluated_on)
            versions.describe(name, version, card)
    return int(all_reduce(torch.tensor([version])))
