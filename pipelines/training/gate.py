"""The gate of a night: train a challenger, evaluate it, and decide which version scores."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, Literal, NamedTuple

from pyspark.sql import SparkSession

from din_model.config import Section
from din_model.errors import InputError
from din_model.evaluation.bootstrap import BootstrapInterval, gain
from din_model.ranges import Duration, Number, Probability, Size, Wait
from din_model.registry import tracking, versions
from din_model.registry.tracking import TrackingConfig
from din_model.training.config import TrainConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.data_sets import NIGHTS
from pipelines.store.store import Store
from pipelines.training.evaluate import EvalResult, Metrics
from pipelines.training.judge import evaluate_versions
from pipelines.training.launch import LaunchConfig, launch_challenger
from pipelines.training.training_set import TrainingSet, open_training_set

Judge = Callable[[TrainingSet, str, dict[str, int]], EvalResult]
"""Evaluates versions of a registered model, by name in the result."""


@dataclass(frozen=True)
class NightlyConfig(Section):
    """The wait for the logs, and the gate, which promotes a surely better challenger.

    Attributes:
        metric: ``gauc``, or ``log_loss``, where less is a gain. AUC is not supported here: it
            compares rows across users, so it is not a mean over users.
        min_gain: the whole interval of the gain must lie above it. 0 requires a better model; a
            negative value, such as -0.005, accepts one that is at most that much worse and was
            trained on newer data.
        beat_popularity: promote a challenger only if the whole interval of its gain over the item's
            click rate lies above 0, too, or above a negative ``min_gain``.
        min_users: keep the champion if fewer users take part in the gain: their interval is
            narrow by chance. With ``gauc`` they are the users with clicked and unclicked rows.
        confidence: of the interval, between 0 and 1; see din_model.evaluation.bootstrap.gain.
        resamples: of the users, for the interval.
        refit_on_eval_date: the deciding version continues training on the evaluation date before it
            scores. The refitted version scores this one night and never becomes champion, because
            no later rows evaluated it.
        wait: how long the night waits for what it reads, see pipelines.sensor.
        poll: how often it checks meanwhile.
        marker: file, such as _SUCCESS, that marks its folder as complete.
    """

    metric: Literal["gauc", "log_loss"] = "gauc"
    min_gain: Number = 0.0
    beat_popularity: bool = True
    min_users: Size = 20
    confidence: Probability = 0.95
    resamples: Size = 1000
    refit_on_eval_date: bool = False
    wait: Duration = "0s"
    poll: Wait = "60s"
    marker: str | None = None


@dataclass(frozen=True)
class Decision:
    """The version that scores after a night, and why.

    Attributes:
        version: its number.
        why: the reason, in words.
        metrics: of the models and baselines, by name.
        base_rate: click rate of the training days.
        gain: of the challenger over the champion (or the base rate): point, low and high; empty if
            nothing was compared.
        judged: evaluation date of metrics, calibration and slices; empty in old records.
        calibration: of the deciding version: rows, mean score and click rate per bucket; empty if
            no version was evaluated that night.
        slices: name, rows, clicks, and AUC of challenger and champion; see evaluation.slices.
    """

    version: int
    why: str
    metrics: Metrics
    base_rate: float
    gain: list[float] = field(default_factory=list)
    judged: str = ""
    calibration: list[list[float]] = field(default_factory=list)
    slices: list[list[Any]] = field(default_factory=list)


class StoppedError(InputError):
    """The gate let no version score."""

    def __init__(self, message: str, decision: Decision) -> None:
        """``decision`` holds the challenger's version and evaluation."""
        super().__init__(message)
        self.decision = decision


@dataclass(frozen=True)
class NightSections:
    """The configuration sections that training and the gate read."""

    nightly: NightlyConfig
    train: TrainConfig
    split: SplitConfig
    launch: LaunchConfig
    tracking: TrackingConfig


def decide(
    spark: SparkSession, store: Store, sections: NightSections, days: list[date], day: date
) -> Decision:
    """Return the version that scores after ``day``: the recorded one, or that of a new night.

    A rerun uses the record. A backfill (a later night is on record) uses the version of the nearest
    earlier night, or else of the first later one. Only a new night trains, on ``days``, and only
    the gate moves the alias.

    Args:
        spark: the session, whose executors evaluate.
        store: where examples and decisions are published.
        sections: the configuration.
        days: to train on.
        day: the night, and the evaluation date.

    Raises:
        StoppedError: there is no champion, and the challenger does not pass.
    """
    if record := store.manifest(NIGHTS, day):
        return Decision(**record.facts)
    nights = store.manifests(NIGHTS)
    if later := [n for n in nights if n.date > str(day)]:
        source = next((n for n in reversed(nights) if n.date < str(day)), later[0])
        decision = Decision(**(source.facts | {"why": f"backfill: the version of {source.date}"}))
    else:
        decision = _new_night(spark, store, sections, days, day)
        if sections.nightly.refit_on_eval_date:
            decision = _refit(store, sections, decision, day)
    store.publish(NIGHTS, day, None, vars(decision))
    return decision


def _new_night(
    spark: SparkSession, store: Store, sections: NightSections, days: list[date], day: date
) -> Decision:
    """Train a challenger on the days that its start has not seen, and pass it through the gate."""
    model, train, split = sections.tracking.model, sections.train, sections.split
    judge = partial(evaluate_versions, spark, store)
    champion = versions.champion(model)
    unseen, start = days, None
    if champion and train.start == "champion":
        _, metadata = versions.load(model, champion)
        unseen, start = [d for d in days if str(d) > metadata.trained_through], champion
    if champion and not unseen:
        training_set = open_training_set(store, days, split, day)
        return _keep_without_training(judge, training_set, model, champion, day)
    training_set = open_training_set(store, unseen, split, day, train.patience)
    version, metrics = _challenge(store, sections, training_set, start)
    if champion == version:
        why = f"version {version} is the champion already"
        return Decision(version, why, metrics, training_set.base_rate, judged=str(day))
    return _gate(judge, training_set, sections, _Contest(champion, version, metrics), day)


def _keep_without_training(
    judge: Judge, training_set: TrainingSet, model: str, champion: int, day: date
) -> Decision:
    result = judge(training_set, model, {"champion": champion})
    metrics = result.metrics
    why = f"champion {champion} has seen every day"
    return Decision(
        champion, why, metrics, training_set.base_rate, **_details(result, "champion", day)
    )


class _Contest(NamedTuple):
    """A challenger and its metrics (with baselines), and the champion, if there is one."""

    champion: int | None
    challenger: int
    metrics: Metrics


def _gate(
    judge: Judge, training_set: TrainingSet, sections: NightSections, contest: _Contest, day: date
) -> Decision:
    """Promote the challenger if its gain surely lies above ``nightly.min_gain``."""
    champion, version, metrics = contest
    nightly, model = sections.nightly, sections.tracking.model
    competitors = {"challenger": version} | ({"champion": champion} if champion else {})
    result = judge(training_set, model, competitors)
    encoder = sections.train.model.encoder
    metrics = metrics | {encoder if n == "challenger" else n: m for n, m in result.metrics.items()}
    interval, passed, verdict = _compare(result, contest, nightly, day)

    def decision(winner: int, side: str, why: str) -> Decision:
        details = _details(result, side, day)
        gain = list(interval[:3]) if interval.users else []
        return Decision(winner, why, metrics, training_set.base_rate, gain, **details)

    if passed:
        versions.promote(model, version)
        return decision(version, "challenger", f"promoted: {verdict}")
    if champion is not None:
        return decision(champion, "champion", f"kept champion {champion}: {verdict}")
    raise StoppedError(
        f"no champion, and the challenger does not pass the gate on {day}: {verdict},"
        f" nightly.min_gain {nightly.min_gain:g}: nothing is scored; train on more days, lower"
        " nightly.min_gain, or set nightly.beat_popularity to false",
        decision(version, "challenger", f"stopped: {verdict}"),
    )


def _compare(
    result: EvalResult, contest: _Contest, nightly: NightlyConfig, day: date
) -> tuple[BootstrapInterval, bool, str]:
    """Return the challenger's gain over the champion, whether it passes, and the verdict."""
    champion = contest.champion
    opponent, name = (
        ("champion", f"champion {champion}") if champion else ("base rate", "the base rate")
    )
    interval = _gain(result, opponent, nightly, day)
    if interval.users:
        values = {"gain": interval.point, "gain_low": interval.low, "gain_high": interval.high}
        tracking.log_metrics(values)
    verdict = f"{nightly.metric} gain {interval} of version {contest.challenger} over {name}"
    passed = interval.low > nightly.min_gain and interval.users >= nightly.min_users
    if nightly.beat_popularity:
        over = _gain(result, "popularity", nightly, day)
        passed = passed and over.low > min(nightly.min_gain, 0)
        verdict += f"; over popularity {over}"
    if interval.users < nightly.min_users:
        verdict += (
            f"; measured on {interval.users} users only, nightly.min_users is {nightly.min_users}"
        )
    return interval, passed, verdict


def _refit(store: Store, sections: NightSections, decision: Decision, day: date) -> Decision:
    """Continue training on the evaluation date; the version scores this night only."""
    training_set = open_training_set(store, [day], sections.split, None)
    once = replace(sections.train, epochs=1)  # there are no later rows to stop by
    refit = replace(sections, train=once)
    version, _ = _challenge(store, refit, training_set, decision.version)
    why = f"{decision.why}; version {version} is refitted on {day}"
    return replace(decision, version=version, why=why)


def _challenge(
    store: Store, sections: NightSections, training_set: TrainingSet, start: int | None
) -> tuple[int, Metrics]:
    return launch_challenger(
        store, training_set, sections.train, sections.launch, sections.tracking, start
    )


def _details(result: EvalResult, winner: str, day: date) -> dict[str, Any]:
    """Return what a decision records of the evaluation besides metrics, for reruns to report."""
    curve = [list(bucket) for bucket in result.tallies[winner].calibration()]
    return {"judged": str(day), "calibration": curve, "slices": [list(s) for s in result.slices]}


def _gain(
    result: EvalResult, opponent: str, nightly: NightlyConfig, day: date
) -> BootstrapInterval:
    """Return the challenger's gain over the opponent; a rerun resamples the same users."""
    one, two = (result.tallies[name].by_user[nightly.metric] for name in ("challenger", opponent))
    if nightly.metric == "log_loss":
        one, two = two, one
    return gain(one, two, nightly.confidence, nightly.resamples, seed=day.toordinal())
