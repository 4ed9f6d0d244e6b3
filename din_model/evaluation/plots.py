"""Plots of a run and of a night, for MLflow and the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from din_model.evaluation.calibration import Calibration
from din_model.evaluation.drift import EDGES

SCORES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
# Okabe and Ito's colour-blind safe palette; markers and dashes differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLOURS)
    axes.grid(alpha=0.3)
    return figure, axes


def training_curve(losses: Sequence[tuple[int, float]], base_rate: float) -> Figure:
    """Plot loss against step, beside the loss of predicting the click rate."""
    rate = min(max(base_rate, 1e-9), 1 - 1e-9)  # 0 log 0 is no number
    base_loss = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
    figure, axes = _axes(4, 2.8)
    axes.plot(*zip(*losses, strict=True), label="training loss")
    axes.axhline(base_loss, color="grey", linestyle="--", label="base rate")
    axes.set(xlabel="step", ylabel="log loss (nats)", title="Training")
    axes.legend()
    return figure


def calibration_curve(
    buckets: Sequence[Calibration], title: str = "Calibration on the evaluation date"
) -> Figure:
    """Plot mean score against click rate, one point per bucket."""
    figure, axes = _axes(4, 2.8)
    top = max(max(b.score, b.rate) for b in buckets)
    axes.plot([0, top], [0, top], color="grey", linestyle="--", label="perfect")
    axes.plot([b.score for b in buckets], [b.rate for b in buckets], marker="o", label="buckets")
    axes.set(xlabel="mean score", ylabel="click rate", title=title)
    axes.legend()
    return figure


def score_histogram(now: NDArray[Any], before: NDArray[Any] | None = None) -> Figure:
    """Plot the distribution of a night's scores over that of the night before."""
    figure, axes = _axes(4, 2.8)
    scores = 1 / (1 + np.exp(-EDGES))
    for counts, label, style in ((now, "tonight", "-"), (before, "last night", "--")):
        if counts is not None:
            share = counts / max(counts.sum(), 1)
            axes.stairs(share, scores, label=label, linestyle=style, linewidth=1.5)
    used = np.flatnonzero(now + (0 if before is None else before))
    ends = scores[[used.min(), used.max() + 1]] if len(used) else scores[[0, -1]]
    axes.set(xscale="logit", xlabel="score", ylabel="share of candidates", title="Scores")
    axes.set(xticks=SCORES, xticklabels=[f"{score:g}" for score in SCORES])
    axes.set(xlim=ends)  # set last: ticks widen the limits
    axes.minorticks_off()
    axes.legend()
    return figure


def gain(point: float, low: float, high: float, least: float) -> Figure:
    """Plot the interval of a gain beside 0 and the required gain."""
    figure, axes = _axes(4, 1.5)
    axes.errorbar([point], [0], xerr=[[point - low], [high - point]], marker="o", capsize=6)
    axes.axvline(0, color="grey", linewidth=1)
    axes.axvline(least, color=COLOURS[1], linestyle="--", label=f"required: above {least:g}")
    axes.set(xlabel="gain", ylim=(-1, 1), yticks=[])
    axes.margins(x=0.15)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.35), frameon=False)
    return figure
