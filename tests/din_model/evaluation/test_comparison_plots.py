"""Labels from the logs are drawn as they are written."""

import io

import numpy as np
import pytest
from matplotlib import rc_context

from din_model.evaluation.comparison_plots import activation


@pytest.mark.parametrize("label", ["up to $5", "$5 to $10", "$x^", "a_b^{", "$\\frac{$"])
def test_a_category_with_a_dollar_is_no_formula(label):
    figure = activation([label, "other"], {label: np.array([0.5, 0.5])}, "one user")
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg")
    assert f"candidate: {label}" in out.getvalue()
