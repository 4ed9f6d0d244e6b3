"""A grid of encoders, dimensions and seeds on one data set: is a fixed user vector enough?

Each trial trains a model that differs in nothing else and evaluates it on the same rows: overall,
by slice, and by the top lists of users over a sample of the catalogue.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from din_model.config import Section
from din_model.console import console
from din_model.data.batch import Batch, from_columns, with_histories
from din_model.data.rows import Columns
from din_model.features import FeatureSpec
from din_model.modules.din import DIN, Encoder
from din_model.ranges import NOT_EMPTY, Length, Seed, Size
from din_model.training.config import TrainConfig
from pipelines.store.store import Store
from pipelines.training.challenger import train
from pipelines.training.evaluate import evaluate_model
from pipelines.training.training_set import TrainingSet

TOP = 10
USERS_AT_ONCE = 8
LOOKED_AT = 100_000
"""Evaluation rows from which users and items are sampled."""

Track = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class CompareConfig(Section):
    """The grid of jobs.compare: each encoder at each dimension with each seed.

    Attributes:
        encoders: to compare.
        dimensions: of the tables that candidate and history share; others keep theirs.
        seeds: one training each; the report shows mean and standard deviation.
        match: dimension of ``din`` that ``mean`` is to match.
        users: number of users with top lists.
        items: number of items ranked for each of them.
        report: folder of the report.
    """

    encoders: Annotated[tuple[Encoder, ...], NOT_EMPTY] = ("mean", "din")
    dimensions: Annotated[tuple[Length, ...], NOT_EMPTY] = (4, 8, 16)
    seeds: Annotated[tuple[Seed, ...], NOT_EMPTY] = (1, 2)
    match: Length = 8
    users: Size = 200
    items: Size = 500
    report: str = "out/compare"


@dataclass(frozen=True)
class Trial:
    """One trained and evaluated model.

    ``slices``: AUC by slice. ``coverage``: share of the sampled items in some user's top list.
    ``popularity``: mean percentile (1 for the most shown item) of the items in the top lists.
    """

    encoder: str
    dimension: int
    seed: int
    metrics: dict[str, float]
    slices: dict[str, float] = field(default_factory=dict)
    coverage: float = float("nan")
    popularity: float = float("nan")

    def numbers(self) -> dict[str, float]:
        """Return all numbers, flat, as logged with a run."""
        flat = self.metrics | {f"slice/{k}": v for k, v in self.slices.items()}
        return flat | {"coverage": self.coverage, "popularity": self.popularity}


@dataclass(frozen=True)
class Sample:
    """Users (evaluation rows, one per user) and items of the catalogue for the top lists."""

    users: Columns
    items: Columns


def with_dimension(spec: FeatureSpec, dimension: int) -> FeatureSpec:
    """Return the spec with another dimension of every table that a history reads."""
    shared = {spec[f].vocabulary for h in spec.histories for f in h.fields.values()}
    features = tuple(
        replace(f, dimension=dimension) if f.vocabulary in shared else f for f in spec.features
    )
    return replace(spec, features=features)


def run_grid(
    store: Store, training_set: TrainingSet, config: TrainConfig, grid: CompareConfig,
    tracked: Track, log: Callable[[dict[str, float]], None],
) -> tuple[list[Trial], dict[str, DIN], Sample]:  # fmt: skip
    """Train and evaluate every trial.

    ``tracked`` opens a run by name; ``log`` gets the numbers of the trial in it.

    Returns:
        The trials, each encoder's model at ``match``, and the sample.
    """
    sample = draw_sample(store, training_set, grid)
    cells, models = [], dict[str, DIN]()
    for encoder in grid.encoders:
        for dimension in grid.dimensions:
            for seed in grid.seeds:
                sized = replace(training_set, spec=with_dimension(training_set.spec, dimension))
                drawn = replace(config, seed=seed, model=replace(config.model, encoder=encoder))
                name = f"{encoder} {dimension} seed {seed}"
                console.print(f"  {name}", style="bold")
                with tracked(name):
                    model, *_ = train(store, sized, drawn, lambda *_: None)
                    cell = evaluate_trial(store, sized, model, encoder, dimension, seed, sample)
                    log(cell.numbers())
                cells.append(cell)
                if dimension == grid.match:
                    models.setdefault(encoder, model)
    return cells, models, sample


# Seven parameters: a trial is named by its encoder, dimension and seed.
def evaluate_trial(
    store: Store, training_set: TrainingSet, model: DIN, encoder: str, dimension: int, seed: int,
    sample: Sample,
) -> Trial:  # fmt: skip
    """Evaluate a model on the evaluation rows, by slice, and by its top lists."""
    judged = evaluate_model(model, store, training_set, encoder, sliced=[encoder])
    item = training_set.spec[training_set.spec.item].vocabulary
    shown, _ = training_set.id_counts.shown_and_clicked(store, item)
    coverage, popularity = top_lists(model, sample, shown)
    by_slice = {part.name: part.auc.get(encoder, float("nan")) for part in judged.slices}
    results = judged.metrics[encoder]
    return Trial(encoder, dimension, seed, results, by_slice, coverage, popularity)


def draw_sample(store: Store, training_set: TrainingSet, grid: CompareConfig) -> Sample:
    """Return one evaluation row for each of some users, and some items with attributes."""
    spec, rng = training_set.spec, np.random.default_rng(2019)
    chunks: list[Columns] = []
    for columns in training_set.evaluation_loader(store).chunks():
        chunks.append(columns)
        if sum(len(c["label"]) for c in chunks) >= LOOKED_AT:
            break
    rows = {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}
    _, first = np.unique(rows[spec.user], return_index=True)
    users = rng.permutation(first)[: grid.users]
    _, first = np.unique(rows[spec.item], return_index=True)
    items = rng.permutation(first)[: grid.items]
    return Sample({n: v[users] for n, v in rows.items()}, {n: v[items] for n, v in rows.items()})


@torch.inference_mode()
def top_lists(model: DIN, sample: Sample, shown: NDArray[Any]) -> tuple[float, float]:
    """Score every item for every user; return coverage and popularity of the top lists."""
    items = sample.items[model.spec.item]
    order = np.argsort(np.argsort(shown, kind="stable"), kind="stable")
    percentile = (order + 1) / len(order)
    lists = []
    for start in range(0, len(sample.users["label"]), USERS_AT_ONCE):
        users = {n: v[start : start + USERS_AT_ONCE] for n, v in sample.users.items()}
        scores = model(crossed(model.spec, users, sample.items)).view(-1, len(items))
        lists.append(scores.topk(min(TOP, len(items)), dim=1).indices.numpy())
    top = items[np.concatenate(lists)]
    coverage = len(np.unique(top)) / min(len(items), top.size)
    return coverage, float(percentile[np.minimum(top, len(percentile) - 1)].mean())


def crossed(spec: FeatureSpec, users: Columns, items: Columns) -> Batch:
    """Return a batch of every user row with every item row, users first; histories are shared."""
    count, each = len(users[spec.user]), len(items[spec.item])
    columns: Columns = {}
    for f in spec.features:
        for name in [f.name, f"{f.name}__length"] if f.is_list else [f.name]:
            if f.side == "item":
                columns[name] = np.concatenate([items[name]] * count)
            elif name in users:
                columns[name] = np.repeat(users[name], each, axis=0)
    for counter in spec.counters:
        for name in counter.columns:
            if all(spec[key].side == "item" for key in counter.keys):
                columns[name] = np.concatenate([items[name]] * count)
            elif all(spec[key].side != "item" for key in counter.keys):
                columns[name] = np.repeat(users[name], each, axis=0)
            else:  # the pair was not looked up: as if it had no event
                unseen = -1 if name in (counter.first, counter.last) else 0
                columns[name] = np.full(count * each, unseen)
    histories = from_columns(users, spec).histories
    return with_histories(columns, spec, histories, torch.arange(count).repeat_interleave(each))


def mean_of_seeds(cells: list[Trial], metric: str) -> dict[tuple[str, int], tuple[float, float]]:
    """Return (encoder, dimension) -> mean and standard deviation over seeds (nan for one)."""
    groups: dict[tuple[str, int], list[float]] = {}
    for cell in cells:
        groups.setdefault((cell.encoder, cell.dimension), []).append(cell.numbers()[metric])
    return {
        key: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else float("nan"))
        for key, v in groups.items()
    }


def matching_dimension(cells: list[Trial], match: int) -> int | None:
    """Return the smallest dimension at which ``mean`` reaches ``din`` at ``match``, if any."""
    means = mean_of_seeds(cells, "auc")
    if ("din", match) not in means:
        return None
    goal = means["din", match][0]
    reached = [d for (e, d), (value, _) in means.items() if e == "mean" and value >= goal]
    return min(reached, default=None)
