"""Padded columns of examples as a jagged batch."""

from dataclasses import replace

import numpy as np
import torch

from din_model.data.batch import example_columns, from_columns
from din_model.features import Counter, Feature, History
from tests.din_model.conftest import small_spec

SPEC = replace(
    small_spec(),
    features=(*small_spec().features, Feature("hidden", "item", "string", "hidden", 0)),
    histories=(History("clicks", 6, 0, {"item": "item"}, age=True),),
    counters=(Counter("by_item", "impressions", ("item",), (1,)),),
)
COLUMNS = {
    "user": np.array([2, 3, 4], np.int32),
    "item": np.array([5, 6, 7], np.int32),
    "tags": np.array([[2, 3, 0], [0, 0, 0], [4, 0, 0]], np.int32),
    "tags__length": np.array([2, 0, 1]),
    "clicks__item": np.array([[0, 0], [8, 9], [10, 0]], np.int32),
    "clicks__age": np.array([[0, 0], [1, 2], [3, 0]], np.int32),
    "clicks__length": np.array([0, 2, 1]),
    "by_item__events_1d": np.array([7, 8, 9]),
    "by_item__clicks_1d": np.array([1, 2, 3]),
    "by_item__first": np.array([60, -1, 5]),
    "by_item__last": np.array([6, -1, 5]),
}


def test_lists_and_histories_lose_their_padding():
    batch = from_columns(COLUMNS, SPEC)
    assert batch.rows == 3
    assert batch.features["item"].tolist() == [5, 6, 7]
    tags, clicks = batch.features["tags"], batch.histories["clicks"]
    assert (tags.values.tolist(), tags.offsets.tolist()) == ([2, 3, 4], [0, 2, 2, 3])
    assert clicks.offsets.tolist() == [0, 0, 2, 3]
    assert clicks.fields["item"].tolist() == [8, 9, 10]
    assert clicks.fields["age"].tolist() == [1, 2, 3]
    assert {t.dtype for t in (tags.values, tags.offsets, clicks.offsets)} == {torch.int64}


def test_numbers_are_in_the_order_of_the_spec():
    batch = from_columns(COLUMNS, SPEC)
    assert batch.numbers.tolist() == [[7, 1, 60, 6], [8, 2, -1, -1], [9, 3, 5, 5]]


def test_columns_of_arrow_which_are_read_only_make_no_warning(recwarn):
    price = Feature("price", "item", "number", "price", 0, scale="standard")
    floats = {name: np.ones(3, np.float32) for name in ("label", "weight", "price")}
    for column in floats.values():
        column.flags.writeable = False
    torch.set_warn_always(True)
    from_columns(COLUMNS | floats, replace(SPEC, features=(*SPEC.features, price)))
    torch.set_warn_always(False)
    assert not recwarn.list


def test_label_and_weight_default_to_zeros_and_ones():
    batch = from_columns(COLUMNS, SPEC)
    assert (batch.label.tolist(), batch.weight.tolist()) == ([0] * 3, [1] * 3)
    given = {"label": np.array([1, 0, 1]), "weight": np.array([1, 4, 1])}
    batch = from_columns(COLUMNS | given, SPEC)
    assert (batch.label.tolist(), batch.weight.tolist()) == ([1, 0, 1], [1, 4, 1])


def test_the_columns_of_an_example_are_those_that_a_batch_reads():
    names = example_columns(SPEC)
    assert sorted(names) == sorted([*COLUMNS, "label"]), "hidden has dimension 0"
    assert example_columns(replace(SPEC, weight="w"))[:2] == ["label", "weight"]
