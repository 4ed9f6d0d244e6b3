"""The sections features and history become the contract, with sensible counters."""

import pytest

from din_model.errors import InputError
from din_model.features import ALL, Counter
from pipelines.spec import (
    ColumnConfig,
    CounterConfig,
    FeaturesConfig,
    HistoryConfig,
    KindConfig,
    feature_spec,
)

COLUMNS = {
    "user": ColumnConfig(side="user"),
    "item": ColumnConfig(side="item"),
    "category": ColumnConfig(side="item"),
    "brand": ColumnConfig(side="item"),
}
HISTORY = HistoryConfig(
    {"clicks": KindConfig({"item": "item", "category": "category"}, lag="2m")}, since=None
)


def counters(declared: dict[str, CounterConfig] | None, delay: int = 0) -> dict[str, Counter]:
    features = FeaturesConfig(user="user", item="item", columns=COLUMNS, counters=declared)
    return {c.name: c for c in feature_spec(features, HISTORY, delay).counters}


def test_a_log_that_declares_no_counter_counts_what_its_histories_mirror():
    found = counters(None, delay=60)
    keys = {name: (c.events, c.keys) for name, c in found.items()}
    assert keys == {
        "by_item": ("impressions", ("item",)),
        "by_user": ("impressions", ("user",)),
        "by_user_item": ("impressions", ("user", "item")),
        "by_category": ("impressions", ("category",)),
        "by_user_category": ("impressions", ("user", "category")),
        "clicks_by_item": ("clicks", ("item",)),
    }
    assert {c.windows for c in found.values()} == {(1, 7, ALL)}
    assert found["by_item"].lag == 60, "when a click is known"
    assert found["clicks_by_item"].lag == 120_000_000, "the kind's own"


def test_declared_counters_replace_the_default_ones():
    assert counters({}) == {}
    found = counters({"pair": CounterConfig(("user", "brand"), windows=("2d",), lag="1s")})
    assert found == {"pair": Counter("pair", "impressions", ("user", "brand"), (2,), 1_000_000)}


@pytest.mark.parametrize("window", ["0d", "36h"])
def test_a_window_is_whole_days(window):
    with pytest.raises(InputError, match=f"the window '{window}' is neither whole days nor all"):
        counters({"x": CounterConfig(("item",), windows=(window,))})


def test_a_number_without_buckets_enters_as_a_value():
    price = ColumnConfig(side="item", type="number")
    features = FeaturesConfig(user="user", item="item", columns=COLUMNS | {"price": price})
    spec = feature_spec(features, HISTORY)
    assert [(f.name, f.scale, f.dimension) for f in spec.values] == [("price", "standard", 0)]
