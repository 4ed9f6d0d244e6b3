"""Evaluates models and baselines on the rows of an evaluation date."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from din_model.console import stage
from din_model.data.batch import numbers_of
from din_model.data.rows import Columns
from din_model.distributed.collectives import all_reduce
from din_model.evaluation import drift
from din_model.evaluation.evaluate import predict_batches
from din_model.evaluation.metrics import Meter, Tally
from din_model.evaluation.slices import (
    Slice,
    Slices,
    popularity_thirds,
    slices_from,
    slices_of,
)
from din_model.modules.din import DIN
from din_model.modules.numeric import PRIOR_CLICKS, NumericInputs
from pipelines.store.store import Store
from pipelines.training import boosted_trees
from pipelines.training.training_set import TrainingSet

Metrics = dict[str, dict[str, float]]

BASELINES = ("popularity", boosted_trees.NAME, "base rate")
"""Names of the simple answers in ``Metrics``, if they were evaluated."""

Score = Callable[[Columns, NDArray[Any]], NDArray[Any]]
"""Scores a batch, given its columns and the model's scores."""


@dataclass(frozen=True)
class EvalResult:
    """The evaluation of a model and of what stands beside it, over all ranks.

    Attributes:
        tallies: by name.
        scores: histogram (evaluation.drift) of the model's scores, as it publishes them.
        slices: of the requested names; see din_model.evaluation.slices.
    """

    tallies: dict[str, Tally]
    scores: NDArray[Any]
    slices: list[Slice]

    @property
    def metrics(self) -> Metrics:
        """Metrics by name, see din_model.evaluation.metrics.Tally."""
        return {name: tally.metrics() for name, tally in self.tallies.items()}


def evaluate_model(
    model: DIN, store: Store, training_set: TrainingSet, name: str,
    beside: dict[str, Score] | None = None, sliced: Collection[str] = (),
) -> EvalResult:  # fmt: skip
    """Evaluate a model and what stands beside it on the same rows.

    Args:
        model: the model.
        store: where the rows are published.
        training_set: names the evaluation rows.
        name: of the model in the result.
        beside: further scores by name.
        sliced: names to report by slice; slices cover this process only.
    """
    spec, slices = training_set.spec, Slices()
    thirds = popularity_of(store, training_set) if sliced else np.zeros(1, np.int8)
    scores: dict[str, Score] = {name: lambda _, score: score} | (beside or {})
    published = np.zeros(drift.BINS, np.int64)
    with ExitStack() as stack, stage(f"evaluate {model.config.encoder}") as report:
        meters = {each: stack.enter_context(Meter()) for each in scores}
        for columns, score in predict_batches(model, training_set.evaluation_loader(store)):
            scores_by_name = {each: score_by(columns, score) for each, score_by in scores.items()}
            for each, meter in meters.items():
                meter.add(columns["label"], scores_by_name[each], columns[spec.user])
            if sliced:
                chosen = {each: scores_by_name[each] for each in sliced}
                slices.add(columns["label"], chosen, slices_of(columns, spec, thirds))
            published += drift.histogram(score, training_set.logit_shift)
        tallies = {each: meter.tally() for each, meter in meters.items()}
        published = all_reduce(torch.from_numpy(published)).numpy()
        result = EvalResult(tallies, published, slices_from(slices.tallies()))
        own = tallies[name].metrics()
        report.rows, report.note = int(own["rows"]), auc_in_words(own["auc"])
        return result


def popularity_of(store: Store, training_set: TrainingSet) -> NDArray[Any]:
    """Return the third of all impressions that each item belongs to [ids], for slices."""
    item = training_set.spec[training_set.spec.item].vocabulary
    return popularity_thirds(training_set.id_counts.shown_and_clicked(store, item)[0])


def auc_in_words(auc: float) -> str:
    """Format an AUC; NaN, which rows of one label have, as a sentence."""
    return f"AUC {auc:.4f}" if auc == auc else "no AUC: all rows have the same label"


def uncalibrated(model: DIN) -> dict[str, Score]:
    """Return the model's scores as they were before its calibration, if it has one, by name."""
    scale, shift = model.calibration.tolist()
    if (scale, shift) == (1.0, 0.0):
        return {}

    def score(_: Columns, calibrated: NDArray[Any]) -> NDArray[Any]:
        logits = torch.logit(torch.from_numpy(calibrated).double(), 1e-7)
        return torch.sigmoid((logits - shift) / scale).numpy()

    return {f"{model.config.encoder} before calibration": score}


def baselines(store: Store, training_set: TrainingSet, seed: int) -> dict[str, Score]:
    """Return the simple scores and, if lightgbm is installed, boosted trees trained alike."""
    scores = simple_scores(store, training_set)
    if boosted_trees.available(training_set.spec):
        scores[boosted_trees.NAME] = boosted_trees.BoostedTrees(store, training_set, seed)
    return scores


def simple_scores(store: Store, training_set: TrainingSet) -> dict[str, Score]:
    """Return the item's click rate, the base rate, and the reference score if there is one."""
    rate = training_set.base_rate
    scores: dict[str, Score] = {
        "popularity": _popularity(store, training_set),
        "base rate": lambda _, score: np.full(len(score), rate),
    }
    if training_set.spec.reference:
        scores["reference"] = lambda columns, _: columns["reference"]
    return scores


def _popularity(store: Store, training_set: TrainingSet) -> Score:
    """Return the item's smoothed click rate, by its counter or by the counts of training days."""
    spec, rate = training_set.spec, training_set.base_rate
    if spec.popularity:
        inputs = NumericInputs(spec)
        inputs.measure([], rate, training_set.popularity_weight)

        @torch.no_grad()
        def by_counter(columns: Columns, _: NDArray[Any]) -> NDArray[Any]:
            _, popularity = inputs(numbers_of(columns, spec))
            return torch.sigmoid(popularity).numpy()

        return by_counter
    prior = PRIOR_CLICKS / min(max(rate, 1e-6), max(1 - rate, 1e-6))
    shown, clicked = training_set.id_counts.shown_and_clicked(store, spec[spec.item].vocabulary)
    by_item = (clicked + prior * rate) / (shown + prior)

    def by_counts(columns: Columns, _: NDArray[Any]) -> NDArray[Any]:
        ids = columns[spec.item]
        return np.where(ids < len(by_item), by_item[np.minimum(ids, len(by_item) - 1)], rate)

    return by_counts
