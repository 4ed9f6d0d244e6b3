"""The report of a night: what happened, and what is to be done, on one page for a person.

It tells what is published and registered, so a rerun of the night tells the same but for the time
it took. Whose candidates are explained it does not say: the page is copied to MLflow, where no
erasure reaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from din_model.console import Stage
from din_model.evaluation import plots
from din_model.evaluation.calibration import Calibration
from din_model.evaluation.slices import Slice
from din_model.registry import tracking, versions
from pipelines.examples.publish import unsampled_examples
from pipelines.ingest.quarantine import UNBROKEN
from pipelines.reports.explanation import Explained
from pipelines.reports.html import render, svg
from pipelines.reports.metrics import METRICS, best_baseline, metric_rows, winning_baseline
from pipelines.scoring.guards import GuardsConfig
from pipelines.store.data_sets import EXAMPLES
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from pipelines.training.gate import Decision, NightlyConfig

NAME = "reports"
DAYS = 14
"""Published days that the quality of a day is shown beside."""

MOVED = 0.25
"""Drift above which scores have moved, by the rule of thumb of din_model.evaluation.drift.psi."""

OFF = 1.25
"""Calibration, or its inverse, above which last night's scores are worth a look."""

MARKS = {"promoted": "▲", "kept": "●", "backfill": "↺", "held back": "✖", "stopped": "■"}
GUARDED = "drift", "coverage"
"""Guarded numbers at the head of the page; the table of the guards has them all."""

SIZE = 120, 32
"""Of a number's line over the days."""


@dataclass(frozen=True)
class NightSummary:
    """The results of a night.

    ``scores``: published, or held back because of a ``breach`` of the guards ``breached``; None if
    the gate stopped the night.
    ``explained``: None if explanations are off.
    """

    model: str
    decision: Decision
    scores: Manifest | None
    stages: Sequence[Stage]
    explained: Explained | None
    nightly: NightlyConfig
    guards: GuardsConfig
    encoder: str
    per_positive: int = 0
    breach: str = ""
    breached: Sequence[str] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the scores."""
        return self.scores.facts if self.scores else {}

    @property
    def deciding(self) -> str:
        """Name of the deciding version in the metrics; empty if another night evaluated it."""
        metrics, why = self.decision.metrics, self.decision.why
        if why.startswith("backfill"):
            return ""
        challenger = why.startswith(("promoted", "stopped")) or "champion" not in metrics
        name = self.encoder if challenger else "champion"
        return name if name in metrics else ""

    @property
    def baseline(self) -> str:
        """A sentence on the baseline that beats the deciding version, if one does."""
        return winning_baseline(self.decision.metrics, self.deciding, self.nightly.metric)


@dataclass(frozen=True)
class Trend:
    """A number over published days; ``points``: for an SVG polyline of ``SIZE``."""

    name: str
    now: float
    before: float | None
    points: str
    low: float
    high: float


def publish_report(store: Store, night: NightSummary, day: date) -> str:
    """Write the report into the store and log it with the active run; return its address."""
    html = page(store, night, day)
    tracking.log_text(html, "report.html")
    lines = "".join(f"\n- {line}" for line in advice(night, unsampled_examples(store, day)))
    tracking.describe_run(f"Gate: {night.decision.why}.\n{lines}\n\nMore is in report.html.")
    return store.put(f"{NAME}/{day}.html", html)


def page(store: Store, night: NightSummary, day: date) -> str:
    """Return the report of ``day``'s night as HTML."""
    examples, scores, decision = unsampled_examples(store, day), night.scores, night.decision
    before = store.before("scores", date.fromisoformat(scores.date)) if scores else None
    drawn = _figures(night, before)
    word = "held back" if night.breach else decision.why.split(":")[0].split(" ")[0]
    return render(
        "nightly.html.j2",
        day=day, night=night, decision=decision, scores=scores, facts=night.facts, before=before,
        verdict=word if word in MARKS else "kept", marks=MARKS, advice=advice(night, examples),
        examples=examples, trained_on=store.require(EXAMPLES, day, ""), unbroken=UNBROKEN,
        trends=trends(store, day), days=DAYS, size=SIZE,
        pictures={name: svg(figure, name) for name, figure in drawn.items()},
        metrics=(list(METRICS.values()), metric_rows(decision.metrics, night.nightly.metric)),
        slices=[Slice(*part) for part in decision.slices], limits=_limits(night),
        key_numbers=_key_numbers(night, examples), took=_took(night.stages),
    )  # fmt: skip


def advice(night: NightSummary, examples: Manifest) -> list[str]:
    """Return what to do, in sentences; one sentence if there is nothing to do."""
    facts, notes = night.facts, []
    if night.scores is None:
        notes.append(
            "No version scored this night, and readers still see the tables published before. Train"
            " on more days, or change nightly.min_gain or nightly.beat_popularity."
        )
    if night.baseline:
        notes.append(night.baseline)
    if night.breach:
        notes.append(
            "Readers still see the table that was published before. Check the numbers below."
            " Then correct the cause and run the night again, roll back (jobs.rollback), or raise"
            " the limit (score.guards)."
        )
    if facts.get("drift", 0) > MOVED:
        notes.append(f"The scores have moved since the last night: drift {facts['drift']:.3f}.")
    if facts.get("clicks", 0) >= night.guards.min_clicks:
        ratio = facts["expected"] / facts["clicks"]
        if not 1 / OFF <= ratio <= OFF:
            notes.append(f"The last scores predicted {ratio:.2f} times the clicks that occurred.")
    for source, reasons in examples.facts["funnel"].items():
        if broken := sum(n for why, n in reasons.items() if why not in UNBROKEN):
            share = broken / sum(reasons.values())
            notes.append(f"{broken:,} broken rows in {source} ({share:.2%}) are in quarantine.")
    if night.decision.why.startswith("promoted") and not night.breach:
        notes.append("A new champion scored. To undo that: python -m jobs.rollback.")
    return notes or ["Nothing needs to be done."]


def trends(store: Store, day: date) -> list[Trend]:
    """Return each data quality number of ``day`` with its values on the days before."""
    days = [d for d in store.dates(EXAMPLES) if d <= day][-DAYS - 1 :]
    measured = [m.facts.get("quality", {}) for d in days if (m := store.manifest(EXAMPLES, d))]
    found = []
    for name, now in (measured[-1] if measured else {}).items():
        values = [quality.get(name) for quality in measured]
        known = [(at, v) for at, v in enumerate(values) if v is not None]
        if now is None or not known:
            continue
        low, high = min(v for _, v in known), max(v for _, v in known)
        x, y = SIZE[0] / max(len(measured) - 1, 1), SIZE[1] / ((high - low) or 1)
        line = [(at * x, SIZE[1] - (v - low) * y if high > low else SIZE[1] / 2) for at, v in known]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in line)
        before = values[-2] if len(values) > 1 else None
        found.append(Trend(name, now, before, points, low, high))
    return found


def _key_numbers(night: NightSummary, examples: Manifest) -> list[tuple[str, float]]:
    """Return (name, number) of what the decision rests on; what was not measured is left out."""
    metrics, by, facts = night.decision.metrics, night.nightly.metric, night.facts
    evaluated = (night.deciding, best_baseline(metrics, by)) if night.deciding else ()
    rows: list[tuple[str, float | None]] = [
        (f"{METRICS[by]} of {name}", metrics[name].get(by)) for name in evaluated if name
    ]
    rows += [("scores", night.scores.rows if night.scores else None)]
    rows += [(name.replace("_", " "), facts.get(name)) for name in ("mean_score", *GUARDED)]
    rows += [
        ("impressions", sum(examples.facts["funnel"]["impressions"].values())),
        ("click rate", examples.facts.get("quality", {}).get("label_rate")),
    ]
    return [(name, value) for name, value in rows if value is not None and value == value]


def _figures(night: NightSummary, before: Manifest | None) -> dict[str, Figure]:
    """Return the figures of what was measured; the page names what is missing."""
    decision, facts, drawn = night.decision, night.facts, dict[str, Figure]()
    if losses := versions.losses(night.model, decision.version):
        drawn["training"] = plots.training_curve(losses, decision.base_rate)
    if decision.gain:
        point, low, high = decision.gain
        drawn["gain"] = plots.gain(point, low, high, night.nightly.min_gain)
    if decision.calibration:
        drawn["judged"] = _calibration(decision.calibration, f"Evaluated on {decision.judged}")
    if facts.get("calibration"):
        drawn["last"] = _calibration(facts["calibration"], "The last night's scores")
    if "histogram" in facts:
        earlier = before.facts.get("histogram") if before else None
        was = np.array(earlier) if earlier else None
        drawn["scores"] = plots.score_histogram(np.array(facts["histogram"]), was)
    return drawn


def _calibration(buckets: list[list[float]], title: str) -> Figure:
    return plots.calibration_curve([Calibration(int(n), s, r) for n, s, r in buckets], title)


def _limits(night: NightSummary) -> list[tuple[str, float | None, str]]:
    """Return (name, number or None if not measured, limit as text) of each guard."""
    rows: list[tuple[str, Any, str]] = []
    for name, side, limit in night.guards.of_numbers():
        words = "none" if limit is None else f"{'≥' if side == 'min' else '≤'} {limit:g}"
        rows.append((name.replace("_", " "), night.facts.get(name), words))
    facts, most = night.facts, night.guards.max_calibration
    ratio = facts["expected"] / facts["clicks"] if facts.get("clicks") else None
    words = f"{1 / most:.3g} to {most:g}" if most else "none"
    return [*rows, ("calibration of the last scores", ratio, words)]


def _took(stages: Sequence[Stage]) -> float:
    """Return the seconds from the start of the first stage to the end of the last."""
    ends = [(s.ended.timestamp() - s.seconds, s.ended.timestamp()) for s in stages if s.ended]
    return max(e for _, e in ends) - min(b for b, _ in ends) if ends else 0.0
