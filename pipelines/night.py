"""One night's decision: train a challenger, judge it, and let the gate say who scores."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from din_model import registry
from din_model.config import Section
from din_model.errors import InputError
from din_model.train_config import TrainConfig
from pipelines.challenger import Challenge, Metrics, judge_again
from pipelines.dataset import Store
from pipelines.split import SplitConfig
from pipelines.window import open_window, window_days

NAME = "nights"


@dataclass(frozen=True)
class NightlyConfig(Section):
    """The gate: a challenger becomes champion when it beats it by ``min_gain`` on ``metric``.

    ``train_in``: the version that scores goes on training on the date that judged it, so that what
    scores the next date has seen all there is. It scores that one night and never holds the title:
    nothing has judged it.
    """

    metric: Literal["gauc", "auc", "log_loss"] = "gauc"
    min_gain: float = 0.0
    train_in: bool = False


@dataclass(frozen=True)
class Decision:
    """Which version scores after a night, and why."""

    version: int
    why: str
    metrics: Metrics
    base_rate: float


def decide(
    store: Store, train: TrainConfig, nightly: NightlyConfig, split: SplitConfig,
    since: date | None, model: str, day: date, challenge: Challenge,
) -> Decision:  # fmt: skip
    """Return the version that scores after ``day``: recorded, or found by challenge and gate.

    A rerun gets what was recorded. A backfill (a later night is on record) gets the version of the
    nearest night before it, or else of the first after it. Only a new night trains (by
    ``challenge``), and only the gate moves the alias.
    """
    if record := store.manifest(NAME, day):
        return Decision(**record.facts)
    nights = store.manifests(NAME)
    if later := [n for n in nights if n.date > str(day)]:
        source = next((n for n in reversed(nights) if n.date < str(day)), later[0])
        why = f"backfill: the version of {source.date}"
        decision = Decision(**(source.facts | {"why": why}))
    else:
        decision = _gate(store, train, nightly, split, since, model, day, challenge)
        if nightly.train_in:
            window = open_window(store, [day], split, None)
            version, _ = challenge(store, window, decision.version)
            why = f"{decision.why}; version {version} has trained {day} in"
            decision = replace(decision, version=version, why=why)
    store.publish(NAME, day, None, vars(decision))
    return decision


def _gate(
    store: Store, train: TrainConfig, nightly: NightlyConfig, split: SplitConfig,
    since: date | None, model: str, day: date, challenge: Challenge,
) -> Decision:  # fmt: skip
    champion = registry.champion(model)
    days, start = window_days(train, split, day, since), None
    if champion and train.start == "champion":
        _, facts = registry.load(model, champion)
        days, start = [d for d in days if str(d) > facts.trained_through], champion
    if champion and not days:
        window = open_window(store, window_days(train, split, day, since), split, day)
        kept = judge_again(store, window, model, champion)
        return Decision(
            champion,
            f"champion {champion} has seen every day",
            {"champion": kept},
            window.base_rate,
        )
    window = open_window(store, days, split, day, train.patience)
    version, results = challenge(store, window, start)
    if champion == version:
        return Decision(
            version, f"version {version} is the champion already", results, window.base_rate
        )
    mine = results[train.model.encoder][nightly.metric]
    if champion is None:
        other, name = results["base rate"][nightly.metric], "the base rate"
    else:
        results = results | {"champion": judge_again(store, window, model, champion)}
        other, name = results["champion"][nightly.metric], f"champion {champion}"
    gain = other - mine if nightly.metric == "log_loss" else mine - other
    verdict = f"{nightly.metric} {mine:.4f} of version {version} against {other:.4f} of {name}"
    if gain > nightly.min_gain:
        registry.promote(model, version)
        return Decision(version, f"promoted: {verdict}", results, window.base_rate)
    if champion is None:
        raise InputError(
            f"no champion, and the challenger does not beat the base rate on {day}: {verdict};"
            " nothing is scored"
        )
    return Decision(champion, f"kept champion {champion}: {verdict}", results, window.base_rate)
