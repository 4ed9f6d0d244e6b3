"""Columns that are known only after the click are found, and others are not taken for them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.ingest.outcomes import group_sizes, named_later, telling

ROWS = 2000
RNG = np.random.default_rng(3)
OWNERS = pd.DataFrame({"user": RNG.integers(0, 90, ROWS), "item": RNG.integers(0, 50, ROWS)})
CLICKED = pd.Series((RNG.random(ROWS) < 0.3).astype(float))
SOMETIMES = CLICKED * (RNG.random(ROWS) < 0.1)


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (1 - CLICKED, "with 0.0 are clicked"),
        (SOMETIMES, "with 1.0 are clicked"),  # such as a like
        (SOMETIMES.map({1.0: "buy", 0.0: None}), "with buy are clicked"),
        (CLICKED * RNG.integers(1, 10**6, ROWS), "without 0.0 are clicked"),  # such as a duration
        (CLICKED * RNG.random(ROWS) - 1 + CLICKED, "without -1.0 are clicked"),
        (CLICKED + RNG.normal(0, 0.3, ROWS), "alone it tells clicks with AUC 0.9"),
        (-CLICKED + RNG.normal(0, 0.3, ROWS), "alone it tells clicks with AUC 0.9"),
    ],
    ids=["its contrary", "like", "text", "duration", "position", "noisy", "falling"],
)
def test_a_column_that_tells_the_click_is_found(values: "pd.Series[Any]", how: str) -> None:
    assert how in str(telling(values, CLICKED, OWNERS))


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.97, 1.0])
def test_what_is_known_before_the_click_is_no_outcome(rate: float) -> None:
    clicked = pd.Series((RNG.random(ROWS) < rate).astype(float))
    columns: list[Any] = [OWNERS["item"] % 7, OWNERS["user"].map(str), RNG.normal(0, 1, ROWS)]
    columns += [np.where(clicked, RNG.random(ROWS) + 0.5, RNG.random(ROWS))]  # a good feature
    for values in columns:
        assert telling(pd.Series(values), clicked, OWNERS) is None


def test_a_robot_that_clicks_everything_is_no_outcome() -> None:
    clicked, browsers = CLICKED.copy(), pd.Series("firefox", range(ROWS))
    robot = OWNERS["user"] == 7
    clicked[robot], browsers[robot] = 1.0, "robot"
    assert robot.sum() >= 20
    assert telling(browsers, clicked, OWNERS) is None


@pytest.mark.parametrize(
    ("name", "later"),
    [("play_time_ms", True), ("isLike", True), ("dwellTime", True), ("likes_of_item", False)],
)
def test_a_name_says_that_a_column_comes_later(name: str, later: bool) -> None:
    assert named_later(name) == later


def test_a_size_of_groups_is_found() -> None:
    groups = np.repeat(np.arange(ROWS), np.resize([1, 2, 3, 5], ROWS))[:ROWS]
    sizes = pd.Series(groups).groupby(groups).transform("size").to_numpy()
    constant = np.resize([3, 3, 3, 4], ROWS)  # equals a size by chance
    frame = pd.DataFrame({"session": groups, "size": sizes, "screen": constant})
    assert group_sizes(frame) == {"size": "session"}
