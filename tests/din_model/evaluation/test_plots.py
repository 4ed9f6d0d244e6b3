"""The numbers that the plots of a run and of a night show."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from din_model.evaluation.calibration import Calibration
from din_model.evaluation.drift import BINS, EDGES
from din_model.evaluation.plots import calibration_curve, gain, score_histogram, training_curve


def line(axes: Axes, label: str) -> list[list[float]]:
    """The x and y values of the line with this label."""
    (found,) = (each for each in axes.lines if each.get_label() == label)
    return [np.asarray(values).tolist() for values in found.get_data()]


def test_losses_are_drawn_beside_the_loss_of_predicting_the_click_rate():
    (axes,) = training_curve([(1, 0.9), (2, 0.5)], base_rate=0.25).axes
    assert line(axes, "training loss") == [[1, 2], [0.9, 0.5]]
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert line(axes, "base rate")[1] == pytest.approx([entropy] * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("base_rate", [0.0, 1.0])
def test_rows_of_one_label_are_predicted_without_loss(base_rate):
    (axes,) = training_curve([(1, 0.9), (2, 0.5)], base_rate).axes
    assert line(axes, "base rate")[1] == pytest.approx([0.0] * 2, abs=1e-4)


def test_calibration_is_one_point_per_bucket_beside_the_diagonal():
    (axes,) = calibration_curve([Calibration(5, 0.1, 0.2), Calibration(5, 0.3, 0.25)]).axes
    assert line(axes, "buckets") == [[0.1, 0.3], [0.2, 0.25]]
    assert line(axes, "perfect") == [[0, 0.3], [0, 0.3]]


def test_a_histogram_shows_shares_of_candidates_over_the_scores_that_occur():
    tonight, before = np.zeros(BINS), np.zeros(BINS)
    tonight[[10, 12]] = 1, 3
    before[11] = 7
    (axes,) = score_histogram(tonight, before).axes
    drawn = {patch.get_label(): patch.get_data().values for patch in axes.patches}
    assert drawn["tonight"][10:13].tolist() == [0.25, 0, 0.75]
    assert drawn["last night"][11] == 1
    assert axes.get_xlim() == pytest.approx(1 / (1 + np.exp(-EDGES[[10, 13]])))


@pytest.mark.parametrize("before", [None, np.zeros(BINS)])
def test_a_histogram_without_scores_is_drawn_empty(before):
    (axes,) = score_histogram(np.zeros(BINS), before).axes
    assert axes.get_xlim() == pytest.approx(1 / (1 + np.exp(-EDGES[[0, -1]])))


def test_the_interval_of_a_gain_is_drawn_beside_the_required_gain():
    (axes,) = gain(0.02, low=0.01, high=0.05, least=0.004).axes
    (bar,) = axes.collections
    assert bar.get_segments()[0][:, 0].tolist() == pytest.approx([0.01, 0.05])
    assert line(axes, "required: above 0.004")[0] == [0.004, 0.004]
