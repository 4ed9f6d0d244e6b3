"""A date is built, current or stale by what its runs pin."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from pipelines.store import plan
from pipelines.store.data_sets import PINS
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

FIRST = date(2026, 11, 19)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def publish(store: Store, name: str, day: date, *upstream: Manifest | None) -> Manifest:
    """Publish a run without rows, made of these."""
    return store.publish(name, day, None, {PINS: plan.pins(*upstream), "rate": 0.5})


def chain(store: Store, length: int) -> list[Manifest]:
    """Publish states of following days, each made of the one before."""
    states: list[Manifest | None] = [None]
    for number in range(length):
        states.append(publish(store, "state", FIRST + timedelta(days=number), states[-1]))
    return [state for state in states if state]


def test_pins_hold_the_ids_by_data_set_and_leave_out_what_there_is_not(store: Store) -> None:
    first, second = chain(store, 2)
    sums = publish(store, "counters", FIRST)
    assert plan.pins(first, None, sums, second) == {
        "state": [first.id, second.id],
        "counters": [sums.id],
    }


def test_a_run_rests_on_what_is_published_until_any_part_is_replaced(store: Store) -> None:
    parts = [publish(store, name, FIRST) for name in ("examples", "state", "counters")]
    counts = publish(store, "counts", FIRST, *parts)
    assert plan.rests_on_published(store, counts)
    for part in parts:
        again = publish(store, part.name, FIRST)
        assert not plan.rests_on_published(store, counts)
        counts = publish(store, "counts", FIRST, *[again if p == part else p for p in parts])
        parts = [again if p == part else p for p in parts]
        assert plan.rests_on_published(store, counts)
    assert not plan.rests_on_published(store, None)


def test_an_erasure_of_a_part_leaves_a_run_resting_on_it(store: Store) -> None:
    state = publish(store, "state", FIRST)
    counts = publish(store, "counts", FIRST, state)
    store.publish("state", FIRST, None, state.facts, replaces=state)
    assert plan.rests_on_published(store, counts)


def test_all_dates_after_a_replaced_one_are_stale(store: Store) -> None:
    states = chain(store, 5)
    assert list(plan.stale(store.manifests("state"))) == []
    publish(store, "state", FIRST + timedelta(days=1), states[0])
    assert list(plan.stale(store.manifests("state"))) == states[2:]


def test_a_date_is_stale_if_an_earlier_one_was_built_after_it(store: Store) -> None:
    *_, second = chain(store, 2)
    after = publish(store, "state", FIRST + timedelta(days=3), second)
    assert list(plan.stale(store.manifests("state"))) == []
    publish(store, "state", FIRST + timedelta(days=2), second)
    assert list(plan.stale(store.manifests("state"))) == [after]


def test_a_run_was_made_of_equal_pins_and_settings_alone(store: Store) -> None:
    first, second = chain(store, 2)
    origin = {PINS: plan.pins(first), "rate": 0.5}
    assert plan.made_of(second, origin)
    assert not plan.made_of(second, origin | {"rate": 0.6})
    assert not plan.made_of(second, origin | {PINS: plan.pins(first, second)})
    assert not plan.made_of(second, origin | {"seed": 1})
    assert not plan.made_of(None, origin)


def test_a_run_is_made_only_of_what_its_data_set_declares(store: Store) -> None:
    scores = publish(store, "scores", FIRST)
    with pytest.raises(AssertionError, match="state"):
        publish(store, "state", FIRST, scores)
    assert store.manifest("state", FIRST) is None
