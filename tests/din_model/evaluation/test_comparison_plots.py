"""The numbers and labels that the plots of a comparison show."""

import io

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from din_model.evaluation.comparison_plots import activation, by_interests, dimensions, slices

AUC = {("din", 16): (0.7, 0.01), ("mean", 4): (0.6, 0.02), ("din", 4): (0.65, 0.03)}


def test_an_encoder_is_a_line_over_its_dimensions_with_its_deviation():
    (axes,) = dimensions({"AUC": AUC}).axes
    drawn = {}
    for container in axes.containers:
        points, _, (bars,) = container.lines
        x, y = points.get_data()
        spread = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
        drawn[container.get_label()] = [*map(list, (x, y)), pytest.approx(spread)]
    assert drawn == {
        "din": [[4, 16], [0.65, 0.7], [0.06, 0.02]], "mean": [[4], [0.6], [0.04]],
    }  # fmt: skip
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4", "16"]


def test_a_data_set_is_a_panel_with_its_best_possible_auc():
    possible = {"1 interest": 0.8, "8 interests": 0.9}
    figure = by_interests(dict.fromkeys(possible, AUC), possible)
    lines = [line for axes in figure.axes for line in axes.lines]
    best = [line.get_ydata()[0] for line in lines if line.get_label() == "the truth"]
    assert [axes.get_title() for axes in figure.axes] == list(possible)
    assert best == list(possible.values())


def test_a_slice_without_auc_has_no_dot():
    (axes,) = slices({"din": {"all": 0.7, "new": 0.6}, "mean": {"all": 0.65}}, 16).axes
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines[:2]}
    assert drawn["din"] == [0.7, 0.6]
    assert drawn["mean"][0] == 0.65
    assert np.isnan(drawn["mean"][1])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["all", "new"]


def test_behaviours_of_one_category_have_one_colour():
    weights = np.array([0.2, 0.5, 0.3])
    (axes,) = activation(["shoes", "hats", "shoes"], {"a hat": weights}, "one user").axes
    assert [bar.get_height() for bar in axes.patches] == weights.tolist()
    first, second, third = (bar.get_facecolor() for bar in axes.patches)
    assert first == third != second
    assert axes.lines[0].get_ydata()[0] == pytest.approx(1 / 3), "the weight of mean"


def svg(figure: Figure) -> str:
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg")
    return out.getvalue()


@pytest.mark.parametrize("label", ["up to $5", "$5 to $10", "$x^", "a_b^{", "$\\frac{$"])
def test_a_category_with_a_dollar_is_drawn_as_text_not_as_a_formula(label):
    figure = activation([label, "other"], {label: np.array([0.5, 0.5])}, "one user")
    assert f"candidate: {label}" in svg(figure)
