"""Boosted trees over the same numbers and matches: what a user would try instead of the model.

They need the package lightgbm (an extra). They are a baseline: evaluated, never registered.
"""

import importlib.util

import numpy as np
import torch
from numpy.typing import NDArray

from din_model.data.batch import numbers_of
from din_model.data.rows import Columns
from din_model.features import UNKNOWN, FeatureSpec
from din_model.modules.numeric import NumericInputs
from pipelines.store.store import Store
from pipelines.training.training_set import TrainingSet

NAME = "lightgbm"

ROWS = 1_000_000
"""Training rows that the trees see; more change them little."""

TREES = 150
PARAMETERS = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.05, "verbose": -1}


def available(spec: FeatureSpec) -> bool:
    """Return whether lightgbm is installed, and the spec has counters or numbers."""
    return bool(spec.numeric_columns) and importlib.util.find_spec(NAME) is not None


class BoostedTrees:
    """Trees fitted to the first rows of the training days, in their seeded order.

    Each rank fits its own, on its own rows.
    """

    def __init__(self, store: Store, training_set: TrainingSet, seed: int) -> None:
        import lightgbm

        self._spec = training_set.spec
        self._inputs = NumericInputs(self._spec)
        self._inputs.measure([], training_set.base_rate)
        parts, labels, weights, rows = list[NDArray[np.float32]](), [], [], 0
        for columns in training_set.rows(store, seed):
            parts.append(self._of(columns))
            labels.append(columns["label"])
            weights.append(columns.get("weight", np.ones(len(columns["label"]))))
            rows += len(columns["label"])
            if rows >= ROWS:
                break
        self._trees = None
        if not rows:  # a rank without rows has none to score either
            return
        data = lightgbm.Dataset(
            np.concatenate(parts), np.concatenate(labels), weight=np.concatenate(weights)
        )
        parameters = PARAMETERS | {"seed": seed, "num_threads": torch.get_num_threads()}
        self._trees = lightgbm.train(parameters, data, TREES)

    def __call__(self, columns: Columns, _: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows: probabilities [B]."""
        if self._trees is None:
            return np.zeros(len(columns["label"]))
        return np.asarray(self._trees.predict(self._of(columns)))

    @torch.no_grad()
    def _of(self, columns: Columns) -> NDArray[np.float32]:
        """Return the inputs of rows [B, inputs]: counts, rates, times, numbers, histories."""
        numbers = self._inputs.transform(numbers_of(columns, self._spec))[0].numpy()
        lengths = [columns[h.column("length")] for h in self._spec.histories]
        return np.column_stack([numbers, *lengths, *matches(columns, self._spec)]).astype(
            np.float32
        )


def matches(columns: Columns, spec: FeatureSpec) -> list[NDArray[np.int64]]:
    """Return how many behaviours have the candidate's id, for each field of a history [B]."""
    return [
        ((columns[h.column(name)] == candidate) & (candidate > UNKNOWN)).sum(1)
        for h in spec.histories
        for name, mirrored in spec.keyed_fields(h).items()
        for candidate in [columns[mirrored][:, None]]
    ]
