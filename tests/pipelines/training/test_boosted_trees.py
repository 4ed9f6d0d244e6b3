"""Boosted trees learn from the counters, and stand beside the model on the same rows."""

import numpy as np

from din_model.data.batch import from_columns
from din_model.evaluation.metrics import auc
from pipelines.training.boosted_trees import BoostedTrees, matches
from pipelines.training.evaluate import baselines, simple_scores
from pipelines.training.training_set import open_training_set
from tests.din_model.conftest import few_items, small_spec, some_model
from tests.nights import NIGHTS


def test_trees_rank_later_rows_better_than_chance_by_counters_alone(nights):
    settings, store, _ = nights
    data = open_training_set(store, NIGHTS[:2], settings.split, NIGHTS[2], 5)
    trees = BoostedTrees(store, data, seed=1)
    rows = list(data.evaluation_loader(store).chunks())
    scores = np.concatenate([trees(columns, np.empty(0)) for columns in rows])
    assert 0 < scores.min() < scores.max() < 1
    assert auc(np.concatenate([columns["label"] for columns in rows]), scores) > 0.52
    assert set(baselines(store, data, 1)) - set(simple_scores(store, data)) == {"lightgbm"}


def test_trees_read_the_matches_that_the_model_reads():
    columns = few_items()
    counted = some_model()._encode(from_columns(columns, small_spec())).counts["clicks"]
    (of_items,) = matches(columns, small_spec())
    assert of_items.tolist() == counted[:, 0].tolist()
