"""Counts of ids over several days: an oracle in pandas, and nothing that grows with ids is held."""

import pickle
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from pipelines.examples.histories import with_histories
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from pipelines.training.id_counts import IdCounts
from pipelines.training.training_set import open_training_set
from tests.nights import NIGHTS

DAYS = (date(2026, 11, 20), date(2026, 11, 21))
ROWS = {
    DAYS[0]: [("item", 2, 10, 7, 3), ("item", 4, 1, 1, 1), ("user", 5, 8, 8, 4)],
    DAYS[1]: [("item", 4, 6, 5, 1), ("user", 2, 6, 5, 1)],
}


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory) -> tuple[Store, tuple[Manifest, ...]]:
    store = Store(str(tmp_path_factory.mktemp("counts")))
    schema = "vocabulary string, id int, examples long, shown long, clicked long"
    days = [store.publish("counts", d, spark.createDataFrame(ROWS[d], schema), {}) for d in DAYS]
    return store, tuple(days)


def test_counts_of_days_add_up_by_id_and_kept_rows_stand_for_the_dropped_ones(published):
    store, days = published
    counts = IdCounts(days, (1.0, 0.25), {"item": 5, "user": 6}, 30)
    assert counts.examples(store, "item").tolist() == [0, 0, 10, 0, 7]
    assert counts.examples(store, "user").tolist() == [0, 0, 6, 0, 0, 8]
    shown, clicked = counts.shown_and_clicked(store, "item")
    assert shown.tolist() == [0, 0, 7, 0, 1 + 1 + 4 * 4]
    assert clicked.tolist() == [0, 0, 3, 0, 2]
    assert counts.click_rate(store, "item") == 5 / 25


@pytest.mark.parametrize(("impressions", "kind"), [(2**31 - 1, np.int32), (2**31, np.int64)])
def test_counts_have_room_for_all_impressions(published, impressions, kind):
    store, days = published
    counts = IdCounts(days, (1.0, 1.0), {"item": 5, "user": 6}, impressions)
    assert counts.examples(store, "item").dtype == kind


def test_of_a_night_they_equal_the_rows_that_are_trained_on(spark, nights):
    settings, store, _ = nights
    data = open_training_set(store, NIGHTS[:2], settings.split, NIGHTS[2])
    item = data.spec[data.spec.item]
    examples = [store.manifest("examples", night) for night in NIGHTS[:2]]
    rows = with_histories(store.read(spark, examples), data.spec).toPandas()
    shown, clicked = data.id_counts.shown_and_clicked(store, item.vocabulary)
    by_item = pd.Series(shown)[lambda counts: counts > 0]
    assert by_item.to_dict() == rows[item.name].value_counts().to_dict()
    assert clicked.sum() == rows["label"].sum()
    assert data.base_rate == pytest.approx(rows["label"].mean())
    mirrored = [
        h.column(n) for h in data.spec.histories for n, m in h.fields.items() if m == item.name
    ]
    held = [
        set(np.r_[row[0], np.concatenate(row[1:])])
        for row in rows[[item.name, *mirrored]].to_numpy()
    ]
    expected = pd.Series([id_ for ids in held for id_ in ids]).value_counts()
    counted = pd.Series(data.id_counts.examples(store, item.vocabulary))[lambda n: n > 0]
    assert counted.to_dict() == expected.drop(0, errors="ignore").to_dict()


def test_a_training_set_is_sent_to_ranks_without_the_counts(nights):
    settings, store, _ = nights
    data = open_training_set(store, NIGHTS[:2], settings.split, NIGHTS[2])
    sizes = dict.fromkeys(data.id_counts.sizes, 10**6)
    many = replace(data, id_counts=replace(data.id_counts, sizes=sizes))
    assert len(many.id_counts.examples(store, data.spec[data.spec.item].vocabulary)) == 10**6
    assert len(pickle.dumps(many)) - len(pickle.dumps(data)) < 1000
