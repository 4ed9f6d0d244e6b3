"""One night's decision: train a challenger, judge it, and let the gate say who scores."""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

from din_model.config import Section, duration
from din_model.errors import InputError
from din_model.evaluation.bootstrap import BootstrapInterval, gain
from din_model.registry import tracking, versions
from din_model.registry.tracking import TrackingConfig
from din_model.training.config import TrainConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.store import Store
from pipelines.training.evaluate import EvalResult, Metrics, evaluate_versions
from pipelines.training.launch import LaunchConfig, launch_challenger
from pipelines.training.training_set import TrainingSet, open_training_set

NAME = "nights"


@dataclass(frozen=True)
class NightlyConfig(Section):
    """The wait for the logs, and the gate: a challenger becomes champion when it is surely better.

    Attributes:
        metric: ``gauc``, or ``log_loss``, by which less is a gain. AUC is none: it pairs rows of
            different users, so it is no mean over users.
        min_gain: what the whole interval of the gain must lie above. 0 asks for a better model;
            a negative one, such as -0.005, for one that is not worse by more than that, and whose
            data are fresher.
        confidence: of the interval, between 0 and 1; see din_model.evaluation.bootstrap.gain.
        resamples: of the users, for the interval.
        refit_on_eval_date: the version that scores goes on training on the date that judged it, so that what
            scores the next date has seen all there is. It scores that one night and never holds
            the title: nothing has judged it.
        wait: how long the night waits for what it reads, see pipelines.sensor.
        poll: how often it looks meanwhile.
        marker: a file, such as _SUCCESS, that says that the folder which holds it is complete.
    """

    metric: Literal["gauc", "log_loss"] = "gauc"
    min_gain: float = 0.0
    confidence: float = 0.95
    resamples: int = 1000
    refit_on_eval_date: bool = False
    wait: str = "0s"
    poll: str = "60s"
    marker: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is between 0 and 1, not {self.confidence}")
        if self.resamples < 1:
            raise ValueError("resamples: one at least")
        duration(self.wait)  # what is no duration is refused here, not in the middle of a night
        if not duration(self.poll):
            raise ValueError("poll must be longer than 0s")


@dataclass(frozen=True)
class Decision:
    """Which version scores after a night, and why.

    Attributes:
        gain: of the challenger over the champion (or the base rate, where there is none): point,
            low and high; empty where nothing was compared.
        judged: the date that metrics, calibration and slices are of, empty in old records.
        calibration: of the version that won: rows, mean score and click rate a bucket; empty where
            no version was judged that night.
        slices: name, rows, clicks, and AUC of challenger and champion; see din_model.evaluation.slices.
    """

    version: int
    why: str
    metrics: Metrics
    base_rate: float
    gain: list[float] = field(default_factory=list)
    judged: str = ""
    calibration: list[list[float]] = field(default_factory=list)
    slices: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class NightSections:
    """The configuration sections that training and the gate read."""

    nightly: NightlyConfig
    train: TrainConfig
    split: SplitConfig
    launch: LaunchConfig
    tracking: TrackingConfig


def decide(store: Store, sections: NightSections, days: list[date], day: date) -> Decision:
    """Return the version that scores after ``day``: recorded, or found by training and the gate.

    A rerun gets what was recorded. A backfill (a later night is on record) gets the version of the
    nearest night before it, or else of the first after it. Only a new night trains (on ``days``), and
    only the gate moves the alias.
    """
    if record := store.manifest(NAME, day):
        return Decision(**record.facts)
    nights = store.manifests(NAME)
    if later := [n for n in nights if n.date > str(day)]:
        source = next((n for n in reversed(nights) if n.date < str(day)), later[0])
        why = f"backfill: the version of {source.date}"
        decision = Decision(**(source.facts | {"why": why}))
    else:
        decision = _gate(store, sections, days, day)
        if sections.nightly.refit_on_eval_date:
            training_set = open_training_set(store, [day], sections.split, None)
            version, _ = _challenge(store, sections, training_set, decision.version)
            why = f"{decision.why}; version {version} has trained {day} in"
            decision = replace(decision, version=version, why=why)
    store.publish(NAME, day, None, vars(decision))
    return decision


def _gate(store: Store, sections: NightSections, days: list[date], day: date) -> Decision:
    nightly, train, split = sections.nightly, sections.train, sections.split
    model = sections.tracking.model
    champion = versions.champion(model)
    unseen, start = days, None
    if champion and train.start == "champion":
        _, facts = versions.load(model, champion)
        unseen, start = [d for d in days if str(d) > facts.trained_through], champion
    if champion and not unseen:
        training_set = open_training_set(store, days, split, day)
        judged = evaluate_versions(store, training_set, model, {"champion": champion})
        kept, why = {"champion": judged.metrics["champion"]}, "has seen every day"
        return Decision(
            champion, f"champion {champion} {why}", kept, training_set.base_rate,
            **_told(judged, "champion", day),
        )  # fmt: skip
    training_set = open_training_set(store, unseen, split, day, train.patience)
    version, results = _challenge(store, sections, training_set, start)
    if champion == version:
        why = f"version {version} is the champion already"
        return Decision(version, why, results, training_set.base_rate, judged=str(day))
    both = {"challenger": version} | ({"champion": champion} if champion else {})
    judged = evaluate_versions(store, training_set, model, both)
    other, name = "base rate", "the base rate"
    if champion:
        results = results | {"champion": judged.metrics["champion"]}
        other, name = "champion", f"champion {champion}"
    found = _gain(judged, other, nightly, day)
    tracking.log_metrics({"gain": found.point, "gain_low": found.low, "gain_high": found.high})
    verdict = (
        f"{nightly.metric} gain {found.point:.4f} [{found.low:.4f}, {found.high:.4f}]"
        f" of version {version} over {name}"
    )
    if found.low > nightly.min_gain:
        versions.promote(model, version)
        told = _told(judged, "challenger", day)
        return Decision(
            version, f"promoted: {verdict}", results, training_set.base_rate, [*found], **told
        )
    if champion is None:
        raise InputError(
            f"no champion, and the challenger is not surely better than the base rate on {day}:"
            f" {verdict}, and nightly.min_gain is {nightly.min_gain:g}; nothing is scored"
        )
    why = f"kept champion {champion}: {verdict}"
    told = _told(judged, "champion", day)
    return Decision(champion, why, results, training_set.base_rate, [*found], **told)


def _challenge(
    store: Store, sections: NightSections, training_set: TrainingSet, start: int | None
) -> tuple[int, Metrics]:
    return launch_challenger(
        store, training_set, sections.train, sections.launch, sections.tracking, start
    )


def _told(judged: EvalResult, winner: str, day: date) -> dict[str, Any]:
    """What a decision keeps of the judging beside the metrics, so that a rerun can tell it too."""
    curve = [list(bucket) for bucket in judged.calibration[winner]]
    slices = [list(part) for part in judged.slices]
    return {"judged": str(day), "calibration": curve, "slices": slices}


def _gain(judged: EvalResult, other: str, nightly: NightlyConfig, day: date) -> BootstrapInterval:
    """Of the challenger over the ``other``; a night that runs again draws the same users."""
    one, two = (judged.by_user[name][nightly.metric] for name in ("challenger", other))
    if nightly.metric == "log_loss":
        one, two = two, one
    return gain(one, two, nightly.confidence, nightly.resamples, seed=day.toordinal())
