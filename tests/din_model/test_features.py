"""The contract as JSON, and what importing it needs."""

import subprocess
import sys
from dataclasses import replace

from din_model.evaluation.slices import interest_column
from din_model.features import Counter, Feature, FeatureSpec, History
from tests.din_model.conftest import small_spec

PRICE = Feature("price", "item", "number", "price", 4, boundaries=(1.5, 2.0))
HOUR = Feature("hour", "context", "int64", "hour", 2, serving_default=12)


def test_the_order_of_history_fields_does_not_matter():
    one, other = ({"b": "item", "a": "item"}, {"a": "item", "b": "item"})
    histories = [(History("clicks", 6, 0, fields),) for fields in (one, other)]
    specs = [replace(small_spec(), histories=each) for each in histories]
    again = FeatureSpec.from_json(specs[0].to_json())
    assert [[*s.histories[0].fields] for s in (*specs, again)] == [["a", "b"]] * 3


def test_a_spec_survives_json():
    features, counter = small_spec().features, Counter("pair", "impressions", ("user",), (1, 0))
    spec = replace(
        small_spec(), features=(*features, PRICE, HOUR), counters=(counter,), key=("a", "b")
    )
    again = FeatureSpec.from_json(spec.to_json())
    assert again == spec
    assert again.hash == spec.hash
    assert replace(spec, time_zone="Europe/Oslo").hash != spec.hash


def test_a_behaviour_is_named_by_keys_not_by_its_vector():
    look, brand = (Feature(n, "item", k, n, 4) for n, k in (("a", "vector"), ("b", "string")))
    history = History("clicks", 6, 0, {"a": "a", "b": "b"})
    spec = replace(
        small_spec(), features=(*small_spec().features, look, brand), histories=(history,)
    )
    assert spec.key_feature(history) == brand
    assert interest_column(spec) == "clicks__b"


def test_reading_the_contract_loads_neither_torch_nor_spark():
    code = "import sys, din_model.features; print({'torch', 'pyspark', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
