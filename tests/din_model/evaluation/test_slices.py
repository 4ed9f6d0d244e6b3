"""Every judged row falls into one slice of each kind."""

import numpy as np

from din_model.evaluation.metrics import Meter
from din_model.evaluation.slices import (
    Slices,
    names_of_slices,
    popularity_thirds,
    slices_from,
    slices_of,
)
from tests.din_model.conftest import small_spec, some_columns


def test_slices_of_a_kind_share_the_rows_out():
    columns = some_columns(200)
    thirds = popularity_thirds(np.arange(30))
    masks = dict(slices_of(columns, small_spec(), thirds))
    for kind in ("history", "item"):
        mine = [mask for name, mask in masks.items() if name.startswith(kind)]
        assert (np.sum(mine, axis=0) == 1).all()
    lengths = columns["clicks__length"]
    assert (masks["history: 0"] == (lengths == 0)).all()
    assert (masks["history: 1-5"] == ((lengths > 0) & (lengths < 6))).all()
    assert not any(name.startswith("interests") for name in masks), "the spec knows items alone"


def test_slices_of_batches_are_those_of_all_rows_at_once():
    columns, rng = some_columns(300), np.random.default_rng(1)
    scores = {name: rng.random(300) for name in ("challenger", "champion")}
    slices, thirds = Slices(), popularity_thirds(np.arange(30))
    for part in (slice(0, 100), slice(100, 300)):
        some = {name: values[part] for name, values in columns.items()}
        of_part = {name: score[part] for name, score in scores.items()}
        slices.add(some["label"], of_part, slices_of(some, small_spec(), thirds))
    found = {part.name: part for part in slices_from(slices.tallies())}
    masks = dict(slices_of(columns, small_spec(), thirds))
    assert list(found) == list(masks) == names_of_slices(small_spec())
    for name, mask in masks.items():
        want = Meter(by_user=False)
        want.add(columns["label"][mask], scores["champion"][mask])
        assert found[name].rows == mask.sum()
        assert found[name].clicks == want.result()["clicks"]
        if 0 < found[name].clicks < found[name].rows:
            assert abs(found[name].auc["champion"] - want.result()["auc"]) < 0.01
        else:
            assert found[name].auc == {}, "labels that are all alike have no AUC"


def test_thirds_of_popularity_hold_a_third_of_the_impressions_each():
    shown = np.array([0, 0, 50, 30, 20, 30, 10, 10])
    assert popularity_thirds(shown).tolist() == [2, 2, 0, 1, 2, 1, 2, 2]
