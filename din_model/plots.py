"""Pictures of a run, for MLflow."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from din_model.drift import EDGES
from din_model.metrics import Calibration


def training_curve(losses: Sequence[tuple[int, float]], base_rate: float) -> Figure:
    """Loss against step, with the loss of always saying the click rate."""
    always = -base_rate * np.log(base_rate) - (1 - base_rate) * np.log1p(-base_rate)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*losses, strict=True), label="training loss")
    axes.axhline(always, color="grey", linestyle="--", label="base rate")
    axes.set(xlabel="step", ylabel="log loss (nats)", title="Training")
    axes.legend()
    return figure


def calibration_curve(
    buckets: Sequence[Calibration], title: str = "Calibration on the judging day"
) -> Figure:
    """Mean score against click rate, a point a bucket of equal rows."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    top = max(max(b.score, b.rate) for b in buckets)
    axes.plot([0, top], [0, top], color="grey", linestyle="--", label="perfect")
    axes.plot([b.score for b in buckets], [b.rate for b in buckets], marker="o", label="buckets")
    axes.set(xlabel="mean score", ylabel="click rate", title=title)
    axes.legend()
    return figure


def score_histogram(now: np.ndarray, before: np.ndarray | None = None) -> Figure:
    """How the scores of a night are spread, over those of the night before (din_model.drift)."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    scores = 1 / (1 + np.exp(-EDGES))
    for counts, label, style in ((before, "last night", "--"), (now, "tonight", "-")):
        if counts is not None:
            axes.stairs(counts / max(counts.sum(), 1), scores, label=label, linestyle=style)
    axes.set(xscale="logit", xlabel="score", ylabel="share of candidates", title="Scores")
    axes.legend()
    return figure
