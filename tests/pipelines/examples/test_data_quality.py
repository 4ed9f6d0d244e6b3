"""The numbers of a day, and the limits that hold it back."""

import json

import pytest

from din_model.errors import InputError
from pipelines.examples.data_quality import (
    QualityConfig,
    of_clicks,
    of_examples,
    of_impressions,
    validate,
)
from pipelines.store.manifest import Manifest
from tests.pipelines.examples.test_build import DAY, impressions, logs_of

HOUR = 3600 * 10**6
NUMBERS = {"rows": 40.0, "label_rate": 0.2, "history.clicks.p90": 0.0, "null.item": 0.0}


def test_the_numbers_of_impressions_are_those_counted_by_hand(spark, tmp_path):
    rows = impressions(80)
    logs = logs_of(spark, tmp_path, [*rows, rows[0], rows[1] | {"id": "x", "clicked": 7}])
    reasons, numbers = of_impressions(logs.impressions(DAY, DAY), logs.spec, DAY)
    assert reasons == {"clicked is neither 0 nor 1": 1, "good": 80, "repeated impression": 1}
    assert numbers["rows"] == 80
    assert numbers["label_rate"] == sum(row["clicked"] for row in rows) / 80
    assert (numbers["first_hour"], numbers["null.user"]) == (0, 0)
    assert numbers["last_hour"] == 23 + 47 / 60
    assert numbers["repeated"] == 1 / 82
    json.dumps(numbers)


def test_the_numbers_of_examples_are_those_counted_by_hand(spark, tmp_path):
    spec = logs_of(spark, tmp_path, []).spec
    # Ids 1 and, from 5 on, those first seen that day are unknown to an earlier model.
    rows = [(2, 1, 0), (2, 3, 5), (3, 5, 5), (4, 6, 2)]
    examples = spark.createDataFrame(rows, "user int, item int, clicks__length int")
    numbers = of_examples(examples, spec, {"item": 5})
    assert numbers["unknown.user"] == 0
    assert numbers["unknown.item"] == 3 / 4
    assert numbers["history.clicks.empty"] == 1 / 4
    assert numbers["history.clicks.p50"] == 3.5
    json.dumps(numbers)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"label_rate": (0.3, None)}, r"label_rate is 0\.2, outside .*\[0\.3, -\]"),
        ({"history.clicks.p90": (1, None)}, r"history\.clicks\.p90 is 0, outside"),
        ({"null.itme": (None, 0)}, r"limits: no number 'null\.itme'; did you mean"),
    ],
)
def test_a_number_outside_its_limits_is_named(limits, message):
    with pytest.raises(InputError, match=message):
        validate(NUMBERS, QualityConfig(limits=limits), None, DAY, complete=True)


@pytest.mark.parametrize(
    ("rate", "passes"), [(0.02, True), (2.0, True), (0.019, False), (0.0, False)]
)
def test_a_number_may_change_by_its_factor_in_both_directions(rate, passes):
    before = Manifest("examples", "2026-11-19", "r", facts={"quality": NUMBERS})
    numbers, config = NUMBERS | {"label_rate": rate}, QualityConfig(change={"label_rate": 10.0})
    if passes:
        validate(numbers, config, before, DAY, complete=True)
        return
    with pytest.raises(InputError, match=rf"label_rate is {rate:g}, but was 0\.2 on 2026-11-19"):
        validate(numbers, config, before, DAY, complete=True)


def test_limits_on_later_numbers_are_not_checked_yet():
    limits = {"history.clicks.p90": (1.0, None)}
    validate({"rows": 40.0}, QualityConfig(limits=limits), None, DAY, complete=False)


def test_unmatched_clicks_hold_a_day_back(spark):
    clicks = {"good": 2, "late click": 1, "repeated click": 1, "malformed": 9}
    numbers = of_clicks(clicks | {"click without an impression": 4})
    assert numbers == {"unmatched_clicks": 0.5}
    validate(numbers, QualityConfig(), None, DAY, complete=False)
    numbers = of_clicks(clicks | {"click without an impression": 5})
    with pytest.raises(InputError, match=r"unmatched_clicks is 0\.555556, outside .* \[-, 0\.5\]"):
        validate(numbers, QualityConfig(), None, DAY, complete=False)
    limits = {"unmatched_clicks": (None, None)}
    validate(numbers, QualityConfig(limits=limits), None, DAY, complete=False)
    assert (of_clicks({}), of_clicks(None)) == ({"unmatched_clicks": 0.0}, {})
