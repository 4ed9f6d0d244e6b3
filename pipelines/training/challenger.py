"""Trains a model on a training set of published examples and judges it on rows that it never saw."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from din_model.config import to_dict
from din_model.console import stage
from din_model.distributed.collectives import all_reduce, device, rank, world_size
from din_model.evaluation import plots
from din_model.modules.din import DIN, new_model
from din_model.modules.embeddings import assign_rows, examples_of_rows
from din_model.registry import artifact, tracking, versions
from din_model.registry.model_card import model_card
from din_model.training.checkpoint import Checkpoints, TrainState
from din_model.training.config import TrainConfig
from din_model.training.loop import Log, fit
from din_model.training.trainer import Trainer
from din_model.training.warm_start import copy_into
from pipelines.store.store import CHECKPOINTS, Store
from pipelines.training.evaluate import Metrics, _baselines, evaluate_model
from pipelines.training.training_set import TrainingSet

Challenge = Callable[..., tuple[int, Metrics]]
"""Trains on a training set, from a version on or from nothing; see train_challenger."""

NOT_THE_MODELS: dict[str, Any] = {"threads": 0, "baselines": (), "checkpoint_every": 0}
"""Settings that do not make a model another."""


def train_challenger(
    store: Store,
    training_set: TrainingSet,
    config: TrainConfig,
    model_name: str,
    start: int | None = None,
) -> tuple[int, Metrics]:
    """Train, judge, log and register; return version and metrics (model and baselines by name).

    What has the same data, configuration and seed is trained once: its version is found again.

    Args:
        training_set: without a judge, nothing is judged and there are no metrics.
        start: the version to go on from; None draws new weights.
    """
    judged_on = training_set.judge.date if training_set.judge else ""
    about = [training_set.content, to_dict(replace(config, **NOT_THE_MODELS)), world_size(), start]
    about += [] if judged_on else ["not judged"]
    fingerprint = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    if config.threads:
        torch.set_num_threads(config.threads)
    found = versions.find(model_name, fingerprint) if rank() == 0 else None
    if version := int(all_reduce(torch.tensor([found or 0]))):
        return version, versions.load(model_name, version)[1].metrics
    older = versions.load(model_name, start)[0] if start else None

    def log(step_metrics: dict[str, float], step: int) -> None:
        if rank() == 0:
            tracking.log_metrics(step_metrics, step)

    checkpoints = Checkpoints(f"{store.url}/{CHECKPOINTS}/{fingerprint}", config.checkpoint_every)
    model, rows_read, at = train(store, training_set, config, log, older, checkpoints)
    results: Metrics = {}
    if training_set.judge:
        judged = evaluate_model(
            model, store, training_set, config.model.encoder, _baselines(training_set)
        )
        results = judged.metrics
        for encoder in config.baselines:
            other = replace(config, model=replace(config.model, encoder=encoder))
            beside, *_ = train(store, training_set, other, lambda m, s: None)
            results |= evaluate_model(beside, store, training_set, encoder).metrics
    facts = artifact.ModelMetadata(
        trained_through=max(m.date for m in training_set.training),
        fingerprint=fingerprint,
        manifests=[m.id for m in training_set.training],
        rows=sum(m.rows for m in training_set.training) * at.epoch,
        rows_read=rows_read,
        metrics=results,
        logit_shift=training_set.logit_shift,
        scores=judged.scores.tolist() if training_set.judge else [],
    )
    version = _register(model, facts, model_name, judged_on)
    checkpoints.remove()
    if rank() == 0:
        _log_inputs(store, training_set)
        for name, values in results.items():
            tracking.log_metrics({f"{name.replace(' ', '_')}.{k}": v for k, v in values.items()})
        tracking.log_figure(plots.training_curve(at.losses, training_set.base_rate), "training")
        if training_set.judge:
            curve = judged.calibration[config.model.encoder]
            tracking.log_figure(plots.calibration_curve(curve), "calibration")
    return version, results


def train(
    store: Store,
    training_set: TrainingSet,
    config: TrainConfig,
    log: Log,
    older: DIN | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[DIN, int, TrainState]:
    """Return the model, the rows that all ranks read, and how far it went."""
    model, examples = _prepare(store, training_set, config, older)
    reader, later = (
        training_set.training_loader(store, config),
        training_set.validation_loader(store),
    )
    with stage(f"train {config.model.encoder}") as report:
        trainer = Trainer(model, config, examples)
        at = fit(trainer, reader, config, log, later, checkpoints)
        rows_read = int(all_reduce(torch.tensor([reader.read])))
        report.rows, report.note = rows_read, f"in {at.epoch} epochs"
    return model, rows_read, at


def _prepare(
    store: Store, training_set: TrainingSet, config: TrainConfig, older: DIN | None
) -> tuple[DIN, dict[str, torch.Tensor]]:
    """A drawn (or continued) model, and n_j of its rows."""
    examples = {
        v: c["examples"]
        for v, c in training_set.counts.items()
        if v in training_set.spec.dimensions
    }
    numbers = {f.vocabulary for f in training_set.spec.features if f.type == "number"}
    id_to_row = {
        v: assign_rows(
            np.full_like(n, config.min_count) if v in numbers else n,
            config.min_count,
            older.tables.id_to_row(v) if older else None,
        )
        for v, n in examples.items()
    }
    model = new_model(
        training_set.spec, config.model, id_to_row, config.seed, device(), config.sharding
    )
    if older is not None:
        item, like = training_set.spec[training_set.spec.item].vocabulary, config.new_item_init_from
        groups = {item: torch.from_numpy(training_set.values_of_items(store, like))} if like else {}
        copy_into(model, older, groups)
    n_j = {v: examples_of_rows(n, id_to_row[v]).to(device()) for v, n in examples.items()}
    return model, n_j


def _log_inputs(store: Store, training_set: TrainingSet) -> None:
    uses = {
        "training": training_set.training,
        "judging": [training_set.judge] if training_set.judge else [],
    }
    for use, manifests in uses.items():
        for m in manifests:
            tracking.log_examples(m.date, f"{store.url}/{m.name}/date={m.date}", m.run, use)


def _register(model: DIN, facts: artifact.ModelMetadata, name: str, judged_on: str) -> int:
    """Register the model, on rank 0; return its version, on every rank."""
    version = 0
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder), model, facts)
        if rank() == 0:
            tags = {"trained_through": facts.trained_through, "judged_on": judged_on}
            version = versions.register(name, Path(folder), facts.fingerprint, tags)
            card = model_card(name, version, model, facts, judged_on)
            versions.describe(name, version, card)
    return int(all_reduce(torch.tensor([version])))
