"""Every judged row falls into one slice of each kind."""

import numpy as np

from din_model.slices import popularity_thirds, slices_of
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


def test_thirds_of_popularity_hold_a_third_of_the_impressions_each():
    shown = np.array([0, 0, 50, 30, 20, 30, 10, 10])
    assert popularity_thirds(shown).tolist() == [2, 2, 0, 1, 2, 1, 2, 2]
