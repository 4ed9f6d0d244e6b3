"""Who scores after a night: what the gate asks of a challenger, and what it writes down."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from din_model.evaluation import drift
from din_model.registry import tracking, versions
from din_model.training.config import TrainConfig
from pipelines.store.store import Store
from pipelines.training.gate import NightSections, StoppedError, decide
from pipelines.training.training_set import training_days
from tests.nights import NIGHTS, withdraw


@contextmanager
def undecided(store: Store, day: date) -> Iterator[None]:
    """The night as if it had not been decided; its record comes back afterwards."""
    version = withdraw(store, "nights", day)
    try:
        yield
    finally:
        DeltaTable(f"{store.base}/nights").restore(version)


def decide_by(
    spark, nights, train: TrainConfig | None = None, model: str | None = None, **ways: Any
):
    """Decide the last night by other ways than those of the configuration."""
    settings, store, _ = nights
    server = replace(settings.tracking, model=model or settings.tracking.model)
    tracking.connect(server, store.url)
    train = train or settings.train
    days = training_days(train, settings.split, NIGHTS[-1], settings.history.since)
    sections = NightSections(
        replace(settings.nightly, **ways), train, settings.split, settings.launch, server
    )
    return decide(spark, store, sections, days, NIGHTS[-1])


def test_only_a_gain_whose_whole_interval_is_above_the_least_moves_the_title(spark, nights):
    settings, store, champions = nights
    name, champion = settings.tracking.model, champions[-1]
    train = replace(settings.train, seed=7)
    with undecided(store, NIGHTS[-1]):
        kept = decide_by(spark, nights, train, min_gain=0.9)
    point, low, high = kept.gain
    assert low < point < high
    assert kept.version == champion == versions.champion(name)
    told = f"gauc gain {point:.4f} [{low:.4f}, {high:.4f}] of version "
    assert kept.why.startswith(f"kept champion {champion}: {told}")
    assert kept.why.endswith(f" over champion {champion}")
    gauc = {each: kept.metrics[each]["gauc"] for each in (train.model.encoder, "champion")}
    assert point == pytest.approx(gauc[train.model.encoder] - gauc["champion"], abs=1e-6)
    with undecided(store, NIGHTS[-1]):
        again = decide_by(spark, nights, train, min_gain=low)
        assert (again.gain, again.why) == (kept.gain, kept.why), "the same users are drawn again"
    with undecided(store, NIGHTS[-1]):
        promoted = decide_by(spark, nights, train, min_gain=float(np.nextafter(low, -1)))
    assert versions.rollback(name) == (promoted.version, champion)
    assert promoted.why == f"promoted: {kept.why.partition(': ')[2]}"
    assert promoted.gain == kept.gain


def test_a_challenger_that_is_not_surely_above_popularity_is_not_promoted(spark, nights):
    settings, store, _ = nights
    train = replace(settings.train, learning_rate=0.0)  # it stays at popularity
    at_popularity = {"model": "at-popularity", "beat_popularity": True}
    with undecided(store, NIGHTS[-1]):
        with pytest.raises(StoppedError, match="over popularity") as stopped:
            decide_by(spark, nights, train, min_gain=0.0, **at_popularity)
        decision = stopped.value.decision
        assert decision.gain[1] > 0, "it is above the base rate"
        over = re.search(r"over popularity (\S+) \[(\S+), (\S+)\]", decision.why)
        assert over is not None
        point, low, _ = map(float, over.groups())
        scores = decision.metrics
        gain = scores[train.model.encoder]["gauc"] - scores["popularity"]["gauc"]
        assert point == pytest.approx(gain, abs=1e-4)
        assert low <= 0
        tolerated = decide_by(spark, nights, train, min_gain=low - 0.01, **at_popularity)
    assert tolerated.version == versions.champion("at-popularity")


def test_a_gain_in_log_loss_is_what_is_lost_less(spark, nights):
    settings, store, _ = nights
    train = replace(settings.train, seed=7)
    with undecided(store, NIGHTS[-1]):
        kept = decide_by(spark, nights, train, metric="log_loss", min_gain=0.9)
    loss = {name: kept.metrics[name]["log_loss"] for name in (train.model.encoder, "champion")}
    assert kept.gain[0] == pytest.approx(loss["champion"] - loss[train.model.encoder], abs=1e-6)


def test_a_night_that_was_recorded_without_a_gain_is_still_a_decision(spark, nights):
    _, store, champions = nights
    with undecided(store, NIGHTS[-1]):
        facts = {"version": champions[-1], "why": "promoted", "metrics": {}, "base_rate": 0.05}
        store.publish("nights", NIGHTS[-1], None, facts)
        assert decide_by(spark, nights).gain == []


def test_a_model_carries_the_scores_of_the_day_that_judged_it(nights):
    settings, store, champions = nights
    _, facts = versions.load(settings.tracking.model, champions[0])
    assert sum(facts.scores) == store.require("examples", NIGHTS[0], "").rows
    middle = 1 / (1 + np.exp(-(drift.EDGES[:-1] + drift.EDGES[1:]) / 2))
    told = facts.metrics[settings.train.model.encoder]
    mean = told["calibration"] * told["clicks"] / told["rows"]
    assert np.average(middle, weights=facts.scores) == pytest.approx(mean, rel=0.02)


def test_without_a_champion_and_without_a_gain_over_the_base_rate_nothing_scores(spark, nights):
    _, store, _ = nights
    with undecided(store, NIGHTS[-1]):
        with pytest.raises(
            StoppedError, match=r"no champion.*gain 0\..*base rate.*nothing is scored"
        ) as stopped:
            decide_by(spark, nights, model="nobody", min_gain=0.9)
        assert stopped.value.decision.why.startswith("stopped: gauc gain 0.")
        assert {"din", "popularity"} <= set(stopped.value.decision.metrics)
        assert versions.champion("nobody") is None
        assert store.manifest("nights", NIGHTS[-1]) is None


def test_a_judged_day_may_be_trained_in_without_moving_the_champion(spark, nights):
    settings, store, champions = nights
    day, name = NIGHTS[-1], settings.tracking.model
    with undecided(store, day):
        decision = decide_by(spark, nights, refit_on_eval_date=True)
        assert decision.why.endswith(f"version {decision.version} is refitted on {day}")
        assert versions.champion(name) == champions[-1] != decision.version
        _, facts = versions.load(name, decision.version)
        assert facts.trained_through == str(day)
        assert facts.metrics == {}
        assert facts.rows_read == facts.rows == store.require("examples", day, "").rows
        assert decide_by(spark, nights, refit_on_eval_date=True) == decision, (
            "a rerun takes what is on record"
        )
