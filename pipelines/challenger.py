"""Trains a model on a window of published examples and judges it on rows that it never saw."""

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from din_model import artefact, metrics, plots, registry
from din_model.config import to_dict
from din_model.distributed import device, rank, sum_over_ranks, world
from din_model.embeddings import assign_rows, examples_of_rows
from din_model.errors import InputError
from din_model.features import FIRST_ID, FeatureSpec
from din_model.model import DIN, new_model
from din_model.progress import stage
from din_model.reader import File, Reader
from din_model.train import TrainConfig, Trainer, fit, predict
from pipelines import counts, vocabulary
from pipelines.build import EXAMPLES, HOLDOUT
from pipelines.dataset import Manifest, Store
from pipelines.ingest import days_between
from pipelines.split import SplitConfig

Metrics = dict[str, dict[str, float]]

PRIOR = 10.0
"""Impressions at the base rate that the popularity baseline gives every item to start with."""


@dataclass(frozen=True)
class Window:
    """What is trained on, what judges, and how often each id occurs in the former.

    Attributes:
        first_new: date -> vocabulary -> the first id given on that day.
        counts: columns vocabulary, id, examples, shown, clicked, summed over the window.
        content: what the above are a function of.
    """

    spec: FeatureSpec
    training: tuple[Manifest, ...]
    judge: Manifest
    first_new: dict[str, dict[str, int]]
    counts: dict[str, dict[str, np.ndarray]]
    content: str

    @property
    def base_rate(self) -> float:
        item = self.counts[self.spec[self.spec.item].vocabulary]
        return float(item["clicked"].sum() / item["shown"].sum())

    def training_reader(self, store: Store, config: TrainConfig) -> Reader:
        """Read the examples to train on, in another order every epoch."""
        files = [
            File(url, file.rows, self.first_new[m.date])
            for m in self.training
            for url, file in zip(store.urls(m), m.files, strict=True)
        ]
        return Reader(
            files, self.spec, config.batch_size, rank(), world(), config.seed,
            new_as_unknown=config.new_as_unknown,
        )  # fmt: skip

    def judge_reader(self, store: Store) -> Reader:
        """Read the examples that judge, with the columns that metrics and baselines need."""
        files = [
            File(url, file.rows)
            for url, file in zip(store.urls(self.judge), self.judge.files, strict=True)
        ]
        extra = [self.spec.user, self.spec.item] + (["reference"] if self.spec.reference else [])
        return Reader(files, self.spec, 4096, rank(), world(), extra=extra)


def window_days(
    config: TrainConfig, split: SplitConfig, day: date, since: date | None
) -> list[date]:
    """The days trained on for a model that ``day`` judges."""
    if split.by == "last_position":
        return [day]
    first = day - timedelta(days=config.window)
    return days_between(max(first, since) if since else first, day - timedelta(days=1))


def open_window(store: Store, days: list[date], split: SplitConfig, day: date) -> Window:
    """Find the published examples of ``days``, and those of ``day`` that judge.

    Raises:
        InputError: a day is not built, or was built with another spec; no day is left.
    """
    way_out = "run jobs.build_sequences for it"
    if not days:
        raise InputError(
            f"no day before {day} to train on: history.since is too late, or train.window 0"
        )
    judge = store.require(HOLDOUT if split.by == "last_position" else EXAMPLES, day, way_out)
    training = tuple(store.require(EXAMPLES, d, way_out) for d in days)
    for manifest in training:
        if manifest.facts["spec_hash"] != judge.facts["spec_hash"]:
            raise InputError(
                f"{manifest.id}: built with another spec than {judge.id}; build it again"
            )
    spec = FeatureSpec.from_json(judge.facts["spec"])
    pinned = [store.require(counts.NAME, d, way_out) for d in days]
    sizes = {f.vocabulary: FIRST_ID + len(f.boundaries) + 1 for f in spec.features}
    for m in training:
        sizes |= {v: max(n, sizes[v]) for v, n in m.facts["next_id"].items()}
    grown = [store.require(vocabulary.NAME, d, way_out) for d in days]
    first_new = {m.date: m.facts["first_new"] for m in grown}
    content = json.dumps([spec.hash, first_new, *[m.facts["content"] for m in pinned]])
    return Window(spec, training, judge, first_new, _sum_counts(store, pinned, sizes), content)


def train_challenger(
    store: Store, window: Window, config: TrainConfig, model_name: str, champion: int | None = None
) -> tuple[int, Metrics]:
    """Train, judge, log and register; return version and metrics (model and baselines by name).

    What has the same data, configuration and seed is trained once: its version is found again.
    """
    about = json.dumps(
        [window.content, to_dict(replace(config, threads=0, baselines=())), world(), champion]
    )
    fingerprint = hashlib.sha256(about.encode()).hexdigest()[:16]
    if config.threads:
        torch.set_num_threads(config.threads)
    found = registry.find(model_name, fingerprint) if rank() == 0 else None
    version = int(sum_over_ranks(torch.tensor([float(found or 0)])))
    if version:
        _, facts = registry.load(model_name, version)
        return version, facts.metrics
    older = registry.load(model_name, champion)[0] if champion else None
    losses: list[tuple[int, float]] = []

    def log(step_metrics: dict[str, float], step: int) -> None:
        losses.append((step, step_metrics["loss"]))
        if rank() == 0:
            registry.log_metrics(step_metrics, step)

    model, rows_read, judged, scores = _train_and_judge(store, window, config, log, older)
    results = {config.model.encoder: judged} | _baselines(window, scores)
    for encoder in config.baselines:
        other = replace(config, model=replace(config.model, encoder=encoder))
        results[encoder] = _train_and_judge(store, window, other, lambda m, s: None, None)[2]
    if rank() == 0:
        facts = artefact.Facts(
            trained_through=max(m.date for m in window.training),
            fingerprint=fingerprint,
            manifests=[m.id for m in window.training],
            rows=sum(m.rows for m in window.training) * config.epochs,
            rows_read=rows_read,
            metrics=results,
        )
        version = _register(model, facts, model_name, window)
        for name, values in results.items():
            registry.log_metrics({f"{name.replace(' ', '_')}.{k}": v for k, v in values.items()})
        registry.log_figure(
            plots.training_curve(losses, results["base rate"]["log_loss"]), "training"
        )
        buckets = metrics.calibration(scores["label"], scores["score"])
        registry.log_figure(plots.calibration_curve(buckets), "calibration")
    return int(sum_over_ranks(torch.tensor([float(version if rank() == 0 else 0)]))), results


def judge_again(store: Store, window: Window, model_name: str, version: int) -> dict[str, float]:
    """Judge a registered version on the window's judging rows."""
    model, _ = registry.load(model_name, version)
    return _judge(model, store, window)[0]


def _train_and_judge(
    store: Store, window: Window, config: TrainConfig, log: Any, older: DIN | None
) -> tuple[DIN, int, dict[str, float], dict[str, np.ndarray]]:
    """Return the model, the rows that it read, its metrics, and its scores of the judging rows."""
    model, examples = _prepare(window, config, older)
    reader = window.training_reader(store, config)
    with stage(f"train {config.model.encoder}") as report:
        fit(Trainer(model, config, examples), reader, config, log)
        rows_read = int(sum_over_ranks(torch.tensor([reader.read])))
        report.rows, report.note = rows_read, f"in {config.epochs} epochs"
    with stage(f"judge {config.model.encoder}") as report:
        judged, scores = _judge(model, store, window)
        report.rows = len(scores["label"])
    return model, rows_read, judged, scores


def _prepare(
    window: Window, config: TrainConfig, older: DIN | None
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
    model = new_model(window.spec, config.model, row_of, config.seed, device())
    if older is not None:
        artefact.copy_into(model, older)
    n_j = {v: examples_of_rows(n, row_of[v]).to(device()) for v, n in examples.items()}
    return model, n_j


def _judge(
    model: DIN, store: Store, window: Window
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    reader = window.judge_reader(store)
    extra = [c for c in reader.columns if c in (window.spec.user, window.spec.item, "reference")]
    scores = predict(model, reader, *extra)
    return metrics.evaluate(scores["label"], scores["score"], scores[window.spec.user]), scores


def _baselines(window: Window, scores: dict[str, np.ndarray]) -> Metrics:
    """What it costs to know less: the click rate alone, each item's click rate, a given score."""
    label, user = scores["label"], scores[window.spec.user]
    rate = window.base_rate
    item = window.counts[window.spec[window.spec.item].vocabulary]
    by_item = (item["clicked"] + PRIOR * rate) / (item["shown"] + PRIOR)
    ids = scores[window.spec.item]
    popularity = np.where(ids < len(by_item), by_item[np.minimum(ids, len(by_item) - 1)], rate)
    given = {"popularity": popularity, "base rate": np.full(len(label), rate)}
    if "reference" in scores:
        given["reference"] = scores["reference"].astype(np.float64)
    return {name: metrics.evaluate(label, score, user) for name, score in given.items()}


def _register(model: DIN, facts: artefact.Facts, name: str, window: Window) -> int:
    with tempfile.TemporaryDirectory() as folder:
        artefact.save(Path(folder), model, facts)
        tags = {"trained_through": facts.trained_through, "judged_on": window.judge.date}
        return registry.register(name, Path(folder), facts.fingerprint, tags)


def _sum_counts(
    store: Store, manifests: list[Manifest], sizes: dict[str, int]
) -> dict[str, dict[str, np.ndarray]]:
    """Add the days up, as one array indexed by id for each vocabulary and count."""
    names = ("examples", "shown", "clicked")
    sums = {v: {n: np.zeros(size, np.int64) for n in names} for v, size in sizes.items()}
    for url in [url for m in manifests for url in store.urls(m)]:
        with store.fs.open(url, "rb") as file:
            table = pq.read_table(file)
        held = table.column("vocabulary")
        for v in sums:
            mine = table.filter(pa.compute.equal(held, v))
            ids = mine.column("id").to_numpy()
            for n in names:
                np.add.at(sums[v][n], ids, mine.column(n).to_numpy())
    return sums
