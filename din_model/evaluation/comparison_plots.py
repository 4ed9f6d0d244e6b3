"""Plots of a comparison: metric by dimension, slices, popularity, attention weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from din_model.console import printable
from din_model.evaluation.plots import COLOURS

Spread = Mapping[tuple[str, int], tuple[float, float]]
"""(encoder, dimension) -> mean and standard deviation over seeds."""

STYLE = {"mean": (COLOURS[1], "s"), "din": (COLOURS[0], "o"), "personas": (COLOURS[2], "^")}


def draw_dimensions(axes: Axes, found: Spread, label: str) -> None:
    """Draw one line per encoder, with its standard deviation as error bars."""
    for encoder in dict.fromkeys(encoder for encoder, _ in found):
        sizes = sorted(d for e, d in found if e == encoder)
        means, spread = zip(*[found[encoder, d] for d in sizes], strict=True)
        colour, marker = STYLE[encoder]
        axes.errorbar(
            sizes, means, yerr=spread, label=encoder, color=colour, marker=marker, capsize=3
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({d for _, d in found}), [str(d) for d in sorted({d for _, d in found})])
    axes.set(xlabel="dimension", ylabel=label)
    axes.grid(alpha=0.3)


def dimensions(found: Mapping[str, Spread]) -> Figure:
    """Plot one panel per metric: metric -> spread."""
    figure = Figure(figsize=(5 * len(found), 3.8), layout="constrained")
    for axes, (label, spread) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        draw_dimensions(axes, spread, label)
    figure.axes[0].legend()
    return figure


def by_interests(found: Mapping[str, Spread], best: Mapping[str, float]) -> Figure:
    """Plot one panel per data set: title -> spread, title -> best possible AUC."""
    figure = Figure(figsize=(2.9 * len(found), 3.4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (title, spread) in zip(panels, found.items(), strict=True):
        draw_dimensions(axes, spread, "AUC on the next day")
        axes.axhline(best[title], color="grey", linestyle="--", linewidth=1, label="the truth")
        axes.set_title(title)
        axes.label_outer()
    panels[0].legend()
    return figure


def slices(found: Mapping[str, Mapping[str, float]], dimension: int) -> Figure:
    """Plot the AUC of each slice, one dot per encoder: encoder -> slice -> AUC."""
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    figure = Figure(figsize=(7, 0.32 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    for encoder, each in found.items():
        colour, marker = STYLE[encoder]
        values = [each.get(name, np.nan) for name in names]
        axes.plot(values, places, marker, color=colour, label=encoder)
    axes.axvline(0.5, color="grey", linestyle="--", linewidth=1)
    axes.set_yticks(places, names)
    axes.set(xlabel="AUC", title=f"AUC by slice, at dimension {dimension}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def activation(
    behaviours: Sequence[str], candidates: Mapping[str, NDArray[Any]], title: str
) -> Figure:
    """Plot the weight of each behaviour, oldest first, for several candidates of one user.

    Args:
        behaviours: label of each behaviour, such as its category.
        candidates: label of each candidate -> weights [behaviours].
        title: title of the figure.
    """
    behaviours = [_as_written(label) for label in behaviours]
    groups = list(dict.fromkeys(behaviours))
    colours = {group: COLOURS[i % len(COLOURS)] for i, group in enumerate(groups)}
    figure = Figure(figsize=(8, 1.7 * len(candidates) + 0.9), layout="constrained")
    panels = figure.subplots(len(candidates), 1, sharex=True, squeeze=False)[:, 0]
    places = np.arange(len(behaviours))
    for axes, (candidate, weights) in zip(panels, candidates.items(), strict=True):
        axes.bar(places, weights, color=[colours[b] for b in behaviours])
        axes.axhline(1 / len(behaviours), color="grey", linestyle="--", linewidth=1)
        axes.set_ylabel("weight")
        axes.set_title(f"candidate: {_as_written(candidate)}", loc="left", fontsize=10)
    panels[-1].set_xticks(places, behaviours, rotation=60, ha="right", fontsize=8)
    figure.suptitle(title)
    return figure


def _as_written(label: str) -> str:
    """Return a text of the logs as Matplotlib draws it: dollars would begin a formula."""
    return printable(label).replace("$", r"\$")
