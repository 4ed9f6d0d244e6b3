"""Trains a model on a window of published examples and judges it on rows that it never saw."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from din_model import artefact, drift, plots, registry
from din_model.batch import from_columns
from din_model.card import model_card
from din_model.checkpoint import Checkpoints, Position
from din_model.config import to_dict
from din_model.distributed import device, rank, sum_over_ranks, world
from din_model.embeddings import assign_rows, examples_of_rows
from din_model.metrics import Calibration, Meter, Sums
from din_model.model import DIN, new_model
from din_model.progress import stage
from din_model.reader import Columns
from din_model.slices import Slice, Slices
from din_model.train import Log, fit, scored
from din_model.train_config import TrainConfig
from din_model.trainer import Trainer
from din_model.warm_start import copy_into
from pipelines.dataset import CHECKPOINTS, Store
from pipelines.window import Window

Metrics = dict[str, dict[str, float]]
Score = Callable[[Columns, np.ndarray], np.ndarray]
"""What a judged batch is scored by, given its columns and the model's scores."""

Challenge = Callable[..., tuple[int, Metrics]]
"""Trains on a window, from a version on or from nothing; see train_challenger."""

NOT_THE_MODELS: dict[str, Any] = {"threads": 0, "baselines": (), "checkpoint_every": 0}
"""Settings that do not make a model another."""

PRIOR = 10.0
"""Impressions at the base rate that the popularity baseline gives every item to start with."""


@dataclass(frozen=True)
class Judged:
    """What the judging rows of all ranks say of a model, and of what was judged beside it.

    Attributes:
        metrics: by name, see din_model.metrics.Meter.
        by_user: by name, see din_model.metrics.Meter.by_user.
        calibration: by name.
        scores: histogram (din_model.drift) of the model's scores, as it publishes them.
        slices: of those that were asked for; see din_model.slices.
    """

    metrics: Metrics
    by_user: dict[str, dict[str, Sums]]
    calibration: dict[str, list[Calibration]]
    scores: np.ndarray
    slices: list[Slice]


def train_challenger(
    store: Store, window: Window, config: TrainConfig, model_name: str, start: int | None = None
) -> tuple[int, Metrics]:
    """Train, judge, log and register; return version and metrics (model and baselines by name).

    What has the same data, configuration and seed is trained once: its version is found again.

    Args:
        window: without a judge, nothing is judged and there are no metrics.
        start: the version to go on from; None draws new weights.
    """
    judged_on = window.judge.date if window.judge else ""
    about = [window.content, to_dict(replace(config, **NOT_THE_MODELS)), world(), start]
    about += [] if judged_on else ["not judged"]
    fingerprint = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    if config.threads:
        torch.set_num_threads(config.threads)
    found = registry.find(model_name, fingerprint) if rank() == 0 else None
    if version := int(sum_over_ranks(torch.tensor([found or 0]))):
        return version, registry.load(model_name, version)[1].metrics
    older = registry.load(model_name, start)[0] if start else None

    def log(step_metrics: dict[str, float], step: int) -> None:
        if rank() == 0:
            registry.log_metrics(step_metrics, step)

    checkpoints = Checkpoints(f"{store.url}/{CHECKPOINTS}/{fingerprint}", config.checkpoint_every)
    model, rows_read, at = train(store, window, config, log, older, checkpoints)
    results: Metrics = {}
    if window.judge:
        judged = judge(model, store, window, config.model.encoder, _baselines(window))
        results = judged.metrics
        for encoder in config.baselines:
            other = replace(config, model=replace(config.model, encoder=encoder))
            beside, *_ = train(store, window, other, lambda m, s: None)
            results |= judge(beside, store, window, encoder).metrics
    facts = artefact.Facts(
        trained_through=max(m.date for m in window.training),
        fingerprint=fingerprint,
        manifests=[m.id for m in window.training],
        rows=sum(m.rows for m in window.training) * at.epoch,
        rows_read=rows_read,
        metrics=results,
        logit_shift=window.logit_shift,
        scores=judged.scores.tolist() if window.judge else [],
    )
    version = _register(model, facts, model_name, judged_on)
    checkpoints.remove()
    if rank() == 0:
        _log_inputs(store, window)
        for name, values in results.items():
            registry.log_metrics({f"{name.replace(' ', '_')}.{k}": v for k, v in values.items()})
        registry.log_figure(plots.training_curve(at.losses, window.base_rate), "training")
        if window.judge:
            curve = judged.calibration[config.model.encoder]
            registry.log_figure(plots.calibration_curve(curve), "calibration")
    return version, results


def judge_again(store: Store, window: Window, model_name: str, versions: dict[str, int]) -> Judged:
    """Judge registered versions, by name, and the base rate, on the same rows, read once."""
    (name, model), *others = [(n, registry.load(model_name, v)[0]) for n, v in versions.items()]
    beside = {each: _scored_by(other) for each, other in others}
    beside["base rate"] = _baselines(window)["base rate"]
    return judge(model, store, window, name, beside, versions)


def train(
    store: Store,
    window: Window,
    config: TrainConfig,
    log: Log,
    older: DIN | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[DIN, int, Position]:
    """Return the model, the rows that all ranks read, and how far it went."""
    model, examples = _prepare(store, window, config, older)
    reader, later = window.training_reader(store, config), window.later_reader(store)
    with stage(f"train {config.model.encoder}") as report:
        trainer = Trainer(model, config, examples)
        at = fit(trainer, reader, config, log, later, checkpoints)
        rows_read = int(sum_over_ranks(torch.tensor([reader.read])))
        report.rows, report.note = rows_read, f"in {at.epoch} epochs"
    return model, rows_read, at


def _prepare(
    store: Store, window: Window, config: TrainConfig, older: DIN | None
) -> tuple[DIN, dict[str, torch.Tensor]]:
    """A drawn (or continued) model, and n_j of its rows."""
    examples = {v: c["examples"] for v, c in window.counts.items() if v in window.spec.dimensions}
    numbers = {f.vocabulary for f in window.spec.features if f.type == "number"}
    row_of = {
        v: assign_rows(
            np.full_like(n, config.min_count) if v in numbers else n,
            config.min_count,
            older.tables.row_of(v) if older else None,
        )
        for v, n in examples.items()
    }
    model = new_model(window.spec, config.model, row_of, config.seed, device(), config.dealt_by)
    if older is not None:
        item, like = window.spec[window.spec.item].vocabulary, config.new_items_like
        groups = {item: torch.from_numpy(window.values_of_items(store, like))} if like else {}
        copy_into(model, older, groups)
    n_j = {v: examples_of_rows(n, row_of[v]).to(device()) for v, n in examples.items()}
    return model, n_j


def judge(
    model: DIN, store: Store, window: Window, name: str, beside: dict[str, Score] | None = None,
    sliced: Collection[str] = (),
) -> Judged:  # fmt: skip
    """Judge a model, by ``name``, and what stands ``beside`` it on the same rows; some by slices.

    Slices are of one process alone, whatever the ranks.
    """
    user, item = window.spec.user, window.spec[window.spec.item].vocabulary
    slices = Slices(window.spec, window.counts[item]["shown"]) if sliced else None
    scores: dict[str, Score] = {name: lambda columns, score: score} | (beside or {})
    published = np.zeros(drift.BINS, np.int64)
    with ExitStack() as stack, stage(f"judge {model.config.encoder}") as report:
        meters = {each: stack.enter_context(Meter()) for each in scores}
        for columns, score in scored(model, window.judge_reader(store)):
            said = {each: score_by(columns, score) for each, score_by in scores.items()}
            for each, meter in meters.items():
                meter.add(columns["label"], said[each], columns[user])
            if slices:
                slices.add(columns, {each: said[each] for each in sliced})
            published += drift.histogram(score, window.logit_shift)
        results = {each: meter.result() for each, meter in meters.items()}
        by_user = {each: meter.by_user() for each, meter in meters.items()}
        report.rows, report.note = int(results[name]["rows"]), f"AUC {results[name]['auc']:.4f}"
        published = sum_over_ranks(torch.from_numpy(published)).numpy()
        calibration = {each: meter.calibration() for each, meter in meters.items()}
        return Judged(results, by_user, calibration, published, slices.result() if slices else [])


def _scored_by(model: DIN) -> Score:
    @torch.no_grad()
    def score(columns: Columns, _: np.ndarray) -> np.ndarray:
        return torch.sigmoid(model(from_columns(columns, model.spec))).numpy()

    return score


def _baselines(window: Window) -> dict[str, Score]:
    """What it costs to know less: the click rate alone, each item's click rate, and, if the logs
    give one, the reference score.
    """
    rate = window.base_rate
    item = window.counts[window.spec[window.spec.item].vocabulary]
    by_item = (item["clicked"] + PRIOR * rate) / (item["shown"] + PRIOR)

    def popularity(columns: Columns, score: np.ndarray) -> np.ndarray:
        ids = columns[window.spec.item]
        return np.where(ids < len(by_item), by_item[np.minimum(ids, len(by_item) - 1)], rate)

    found: dict[str, Score] = {
        "popularity": popularity,
        "base rate": lambda columns, score: np.full(len(score), rate),
    }
    if window.spec.reference:
        found["reference"] = lambda columns, score: columns["reference"]
    return found


def _log_inputs(store: Store, window: Window) -> None:
    uses = {"training": window.training, "judging": [window.judge] if window.judge else []}
    for use, manifests in uses.items():
        for m in manifests:
            registry.log_examples(m.date, f"{store.url}/{m.name}/date={m.date}", m.run, use)


def _register(model: DIN, facts: artefact.Facts, name: str, judged_on: str) -> int:
    """Register the model, on rank 0; return its version, on every rank."""
    version = 0
    with tempfile.TemporaryDirectory() as folder:
        artefact.save(Path(folder), model, facts)
        if rank() == 0:
            tags = {"trained_through": facts.trained_through, "judged_on": judged_on}
            version = registry.register(name, Path(folder), facts.fingerprint, tags)
            card = model_card(name, version, model, facts, judged_on)
            registry.describe(name, version, card)
    return int(sum_over_ranks(torch.tensor([version])))
