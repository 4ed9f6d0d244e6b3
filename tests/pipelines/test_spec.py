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


def test_default_counters_count_the_mirrored_features():
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


def test_columns_with_odd_names_get_plain_ones_in_examples():
    odd = {
        "user id": ColumnConfig(side="user"),
        "item.id": ColumnConfig(side="item"),
        "kind": ColumnConfig(side="item", vocabulary="item.id"),
    }
    features = FeaturesConfig(user="user id", item="item.id", columns=odd, time="kind")
    history = HistoryConfig({"type": KindConfig({"item.id": "item.id", "seen": "kind"})})
    spec = feature_spec(features, history)
    user, item, kind = spec.features
    assert (spec.user, spec.item) == (user.name, item.name)
    assert [f.log_name for f in spec.features] == list(odd)
    assert [f.name[:-9] for f in spec.features] == ["user_id", "item_id", "kind"]
    assert kind.vocabulary == item.vocabulary == item.name
    assert spec.histories[0].fields == {item.name: item.name, "seen": kind.name}
    assert Counter(
        f"by_{user.name}_{kind.name}", "impressions", (user.name, kind.name), (1, 7, 0)
    ) in (spec.counters)


@pytest.mark.parametrize("kind", ["a.b", "Clicks of the day", "item.id", "impressions"])
def test_a_kind_of_history_has_a_plain_name(kind):
    history = HistoryConfig({kind: KindConfig({"item": "item"})})
    with pytest.raises(InputError, match=f"history.kinds.{kind}: this name is reserved or not pl"):
        feature_spec(FeaturesConfig(user="user", item="item", columns=COLUMNS), history)


def test_default_counters_whose_names_would_collide_all_exist():
    columns = COLUMNS | {"user_brand": ColumnConfig(side="item")}
    fields = {"brand": "brand", "user_brand": "user_brand"}
    features = FeaturesConfig(user="user", item="item", columns=columns)
    spec = feature_spec(features, HistoryConfig({"clicks": KindConfig(fields)}))
    assert {("user", "brand"), ("user_brand",)} <= {c.keys for c in spec.counters}


@pytest.mark.parametrize("zone", ["Europe", "Nowhere/Here", "", "../x"])
def test_an_unknown_time_zone_is_one_line(zone):
    features = FeaturesConfig(user="user", item="item", columns=COLUMNS, time_zone=zone)
    with pytest.raises(InputError, match=f"features.time_zone: unknown time zone '{zone}'"):
        feature_spec(features, HISTORY)


def test_a_number_without_buckets_is_read_as_a_value():
    price = ColumnConfig(side="item", type="number")
    features = FeaturesConfig(user="user", item="item", columns=COLUMNS | {"price": price})
    spec = feature_spec(features, HISTORY)
    assert [(f.name, f.scale, f.dimension) for f in spec.values] == [("price", "standard", 0)]
