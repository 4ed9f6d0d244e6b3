"""A contract that contradicts itself is refused with the key to correct."""

from dataclasses import replace

import pytest

from din_model.errors import InputError
from din_model.features import Counter, Feature, History
from tests.din_model.conftest import small_spec

PRICE = Feature("price", "item", "number", "price", 4, boundaries=(1.5, 2.0))
HOUR = Feature("hour", "context", "int64", "hour", 2, serving_default=12)


def with_features(*more: Feature) -> dict[str, object]:
    return {"features": (*small_spec().features, *more)}


def with_history(**changes: object) -> dict[str, object]:
    history = History("clicks", 6, 0, {"item": "item"})
    return {"histories": (replace(history, **changes),)}  # type: ignore[arg-type]


def with_counter(**changes: object) -> dict[str, object]:
    counter = Counter("pair", "impressions", ("user", "item"), (1, 0))
    return {"counters": (replace(counter, **changes),)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            with_features(Feature("item", "item", "int64", "item", 8)),
            "item: another column, kind or counter",
        ),
        ({"user": "item"}, "features.columns.item: declare the user column with side: user"),
        ({"item": "nothing"}, "features.columns.nothing: declare the item column"),
        ({"item": "tags"}, "features.columns.tags: declare the item column .*not a list"),
        (
            with_features(Feature("label", "item", "string", "x", 4)),
            "label: this name is reserved or not plain",
        ),
        (
            with_features(Feature("a__b", "item", "string", "x", 4)),
            "a__b: this name is reserved or not plain",
        ),
        (with_features(replace(HOUR, serving_default=None)), "hour: .*set serving_default"),
        (
            with_features(replace(HOUR, serving_default="noon")),
            "hour.serving_default: 'noon' is no int64",
        ),
        (
            with_features(replace(PRICE, side="context", serving_default="cheap")),
            "price.serving_default: 'cheap' is no number",
        ),
        (
            with_features(replace(PRICE, serving_default=2.0)),
            "price.serving_default: only a context feature has one",
        ),
        (with_features(replace(PRICE, boundaries=())), "price: a number needs one of boundaries"),
        (with_features(replace(PRICE, boundaries=(2.0, 2.0))), "price.boundaries: must increase"),
        (with_features(Feature("x", "item", "string", "item", 8)), "shares the vocabulary 'item'"),
        (with_features(Feature("x", "item", "int64", "item", 9)), "shares the vocabulary 'item'"),
        (with_features(replace(PRICE, scale="log")), "price: a number needs one of boundaries"),
        (with_features(replace(HOUR, scale="log")), "hour: boundaries, quantiles and scale need"),
        (
            with_features(replace(PRICE, boundaries=(), scale="log")),
            "price: a number with a scale has no embedding",
        ),
        (with_features(replace(PRICE, max_length=2)), "price: a number is one value"),
        (
            with_features(replace(PRICE, name="u", side="user")) | {"user": "u"},
            "columns.u: the user column has type number, but its keys are string or int64",
        ),
        (with_features(Feature("ITEM", "item", "string", "x", 4)), "ITEM: another column"),
        (with_features(Feature("class", "item", "string", "x", 4)), "class: this name is reserved"),
        (with_features(Feature("x", "item", "string", "wide", 4)), "x.vocabulary: 'wide' is res"),
        (
            with_features(Feature("x", "item", "string", "a.b", 4)),
            "x.vocabulary: 'a.b' is reserved",
        ),
        (
            {
                "features": (
                    *small_spec().features[1:],
                    Feature("u", "user", "string", "u", 4, column="Score"),
                ),
                "user": "u",
            },
            "columns.Score: published scores have a column of this name",
        ),
        (with_counter(name="clicks"), "features.counters.clicks: another column, kind or counter"),
        (with_counter(name="a.b"), "features.counters.a.b: this name is reserved or not plain"),
        (with_history(kind="item"), "history.kinds.item: another column, kind or counter"),
        (with_history(kind="a.b"), "history.kinds.a.b: this name is reserved or not plain"),
        (with_history(kind="impressions"), "history.kinds.impressions: this name is reserved"),
        (with_history(fields={"Time": "item"}), "fields.Time: this name is taken, reserved or not"),
        (with_history(fields={"a": "item", "A": "item"}), "this name is taken, reserved or not"),
        (with_history(fields={"a.b": "item"}), "fields.a.b: this name is taken, reserved or not"),
        (with_counter(events="carts"), "'carts' is neither impressions nor a kind of history"),
        (with_counter(keys=("item", "item")), "name one feature, or two different ones"),
        (with_counter(keys=("tags",)), "'tags' is not a single-valued feature with ids"),
        (with_counter(windows=()), "needs at least one window"),
        (with_counter(windows=(-1,)), "nothing may be negative"),
        ({"histories": ()}, "history.kinds: declare a kind of behaviour"),
        (with_history(length=0), "history.kinds.clicks: length must be at least 1"),
        (
            with_features(Feature("look", "item", "vector", "look", 4))
            | with_history(fields={"look": "look"}),
            "history.kinds.clicks.fields: only vectors",
        ),
        (with_history(fields={}), "name at least one field and the feature it mirrors"),
        (
            with_history(fields={"item": "item", "t": "tags"}),
            "'tags' is not a single-valued item feature",
        ),
        (
            with_history(fields={"item": "item", "u": "user"}),
            "'user' is not a single-valued item feature",
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_name_of_its_key(changes, message):
    with pytest.raises(InputError, match=message):
        replace(small_spec(), **changes)
