"""Each shape of a log that often goes wrong is warned of, and a sound one is not."""

from dataclasses import replace
from datetime import date

import pandas as pd
import pytest

from din_model.features import Feature
from pipelines.reports.log_warnings import (
    CheckConfig,
    on_candidates,
    on_columns,
    on_history,
    on_labels,
    on_outcomes,
    on_rows,
)
from tests.din_model.conftest import small_spec

DAY, SPEC = date(2026, 11, 20), small_spec()
CONFIG = CheckConfig(batch_size=10, min_users=5, max_broken=0.01)


@pytest.mark.parametrize(
    ("reasons", "warning"),
    [
        ({}, "no impressions on 2026-11-20"),
        ({"good": 97, "time is missing": 3}, "3.0% of the rows are broken"),
        ({"good": 90, "repeated impression": 10}, None),
        ({"good": 1000, "time is missing": 1}, None),
    ],
)
def test_rows(reasons, warning):
    found = on_rows(reasons, CONFIG, DAY)
    assert [each.startswith(warning) for each in found] == ([True] if warning else [])


def test_columns():
    numbers = {"rows": 10.0} | {f"null.{f.name}": 0.0 for f in SPEC.features}
    distinct = dict.fromkeys((f.name for f in SPEC.features), 7)
    sound = on_columns(numbers, distinct, SPEC)
    assert all("features.key" in warning for warning in sound)
    name = next(f.name for f in SPEC.features if f.name not in (SPEC.user, SPEC.item))
    missing, one = (
        numbers | {f"null.{name}": 0.97},
        distinct | {name: 1, SPEC.user: 1},
    )
    assert on_columns(missing, distinct, SPEC)[0].startswith(f"97% of {name} are missing")
    assert on_columns(numbers, one, SPEC)[0].startswith(f"{name} has one value only")
    assert on_columns({}, distinct, SPEC) == sound, "no good row says nothing of a column"


@pytest.mark.parametrize(
    ("shown", "clicked", "users", "warning"),
    [
        (1000, 100, 50, None),
        (1000, 0, 0, "no impression is clicked"),
        (1000, 1000, 0, "every impression is clicked"),
        (1000, 100, 4, "4 users have both clicked and unclicked rows"),
        (299, 100, 50, "a day makes 29 training steps of 10 rows"),
        (0, 0, 0, None),
    ],
)
def test_labels(shown, clicked, users, warning):
    found = on_labels(shown, clicked, users, CONFIG)
    assert [each.startswith(warning) for each in found] == ([True] if warning else [])


def test_histories_and_candidates():
    assert on_history(10, 5, DAY) == [] == on_history(0, 0, DAY)
    assert on_history(10, 4, DAY) == [
        "60% of the users have no behaviour before 2026-11-20: the behaviours begin shortly before"
        " (history.since), or name users by other keys than the impressions"
    ]
    assert on_candidates(0.4, DAY, SPEC) == []
    assert on_candidates(0.6, DAY, SPEC)[0].startswith("60% of the candidates have items that")


def test_a_column_that_tells_the_click():
    spec = replace(SPEC, features=(*SPEC.features, Feature("ended", "user", "string", "ended", 2)))
    numbers = pd.Series(range(400))
    sample = pd.DataFrame({"user": numbers % 13, "item": numbers % 17, "ended": numbers % 7})
    sample["label"] = (numbers % 11 % 2).astype(float)
    assert on_outcomes(sample, spec) == []
    sample["ended"] = 1 - sample["label"]
    (warning,) = on_outcomes(sample, spec)
    assert warning.startswith("ended: all 1")
    assert "are clicked: if it is known only after the click, remove it" in warning
