"""Counters and scaled numbers enter the model, and an untrained model ranks by popularity."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from din_model.data.batch import from_columns
from din_model.features import Counter, Feature, FeatureSpec
from din_model.modules.din import ModelConfig, new_model
from din_model.modules.numeric import NumericInputs
from tests.din_model.conftest import small_spec, some_columns

BY_ITEM = Counter("by_item", "impressions", ("item",), (1, 0))
PRICE = Feature("price", "item", "number", "price", 0, scale="log", center=1.0, spread=2.0)


def spec_with(*counters: Counter) -> FeatureSpec:
    spec = small_spec()
    return replace(spec, counters=counters, features=(*spec.features, PRICE))


def columns_of(spec: FeatureSpec, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shown = rng.integers(0, 500, rows)
    numbers = {
        "by_item__events_all": shown, "by_item__clicks_all": rng.binomial(shown, 0.2),
        "by_item__events_1d": shown // 3, "by_item__clicks_1d": shown // 20,
        "by_item__first": np.where(shown > 0, 90_000, -1),
        "by_item__last": np.where(shown > 0, 60, -1),
        "price": np.where(shown % 2 == 0, np.nan, np.expm1(3.0)),
    }  # fmt: skip
    return some_columns(rows) | {name: numbers[name] for name in spec.numeric_columns}


def untrained(spec: FeatureSpec, base_rate: float, weight: float = 1.0) -> torch.nn.Module:
    rows = {"user": 20, "item": 30, "tags": 9}
    id_to_row = {name: torch.arange(n, dtype=torch.int32) for name, n in rows.items()}
    model = new_model(spec, ModelConfig(), id_to_row, seed=3)
    model.measure([], base_rate, weight)
    return model.eval()


@pytest.mark.parametrize("base_rate", [0.01, 0.4, 0.9])
def test_an_untrained_model_gives_the_smoothed_click_rate(base_rate):
    spec = spec_with(BY_ITEM)
    columns = columns_of(spec, 50)
    scores = torch.sigmoid(untrained(spec, base_rate)(from_columns(columns, spec)))
    prior = 2 / min(base_rate, 1 - base_rate)
    clicks, shown = columns["by_item__clicks_all"], columns["by_item__events_all"]
    expected = (clicks + prior * base_rate) / (shown + prior)
    assert scores.detach().numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_negatives_sampled_by_popularity_leave_a_part_of_it(weight):
    spec = spec_with(BY_ITEM)
    batch = from_columns(columns_of(spec, 50), spec)
    whole, part = (untrained(spec, 0.2, w)(batch).detach().numpy() for w in (1.0, weight))
    base = np.log(0.2 / 0.8)
    assert part - base == pytest.approx(weight * (whole - base), abs=1e-5)


def test_a_counter_that_never_differed_in_training_has_no_influence():
    spec = spec_with(BY_ITEM)
    columns = columns_of(spec, 60)
    for name in ("events_all", "clicks_all"):
        columns[f"by_item__{name}"] = np.zeros(60)
    seen = from_columns(columns, spec)
    model = untrained(spec, 0.2)
    model.reset_parameters(3)
    model.measure(seen.numbers.split(20), 0.2)
    torch.nn.init.ones_(model.tower[-1].weight)
    later = from_columns(columns | {"by_item__events_all": np.full(60, 900.0)}, spec)
    other = from_columns(columns | {"by_item__events_1d": np.full(60, 900.0)}, spec)
    torch.testing.assert_close(model(later), model(seen))
    assert (model(other) - model(seen)).abs().max() > 0.1


@pytest.mark.parametrize("counters", [(), (replace(BY_ITEM, windows=(1,)),)])
def test_without_popularity_an_untrained_model_gives_the_base_rate(counters):
    spec = spec_with(*counters)
    scores = torch.sigmoid(untrained(spec, 0.03)(from_columns(columns_of(spec, 9), spec)))
    assert scores.detach().numpy() == pytest.approx(np.full(9, 0.03), rel=1e-5)


def test_measured_inputs_have_mean_zero_and_spread_one():
    spec = spec_with(BY_ITEM)
    numbers = from_columns(columns_of(spec, 400), spec).numbers
    inputs = NumericInputs(spec)
    inputs.measure(numbers.split(150), 0.2)
    standard, _ = inputs(numbers)
    inside = standard.abs().max(0).values < 5  # the others are cut
    assert standard.mean(0)[inside].numpy() == pytest.approx(0, abs=1e-4)
    spread = standard.std(0, correction=0)[inside]
    assert ((spread - 1).abs().min(spread) < 1e-3).all()  # 1, or 0 where all rows are equal


def test_a_number_is_scaled_and_a_missing_one_is_flagged():
    spec = spec_with()
    standard, _ = NumericInputs(spec)(torch.tensor([[np.expm1(3.0)], [float("nan")]]))
    assert standard.tolist() == [pytest.approx([1.0, 1.0]), [0.0, 0.0]]  # (3 - center) / spread


def test_the_largest_numbers_leave_every_input_finite():
    price = replace(PRICE, scale="standard", center=0.5, spread=0.1)
    spec = replace(small_spec(), features=(*small_spec().features, price))
    inputs, largest = NumericInputs(spec), float(np.finfo(np.float32).max)
    numbers = torch.tensor([[largest], [-largest], [0.4], [0.6], [float("nan")]])
    inputs.measure([numbers], base_rate=0.1)
    assert inputs(numbers)[0].isfinite().all()
