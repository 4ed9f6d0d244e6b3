"""The findings of a comparison, in sentences."""

from pipelines.reports.comparison import findings
from pipelines.training.grid import CompareConfig
from tests.pipelines.training.test_grid import TRIALS


def test_the_matching_dimension_is_named():
    lines = findings(TRIALS, CompareConfig(dimensions=(8, 16, 32)))
    assert lines[-1] == "mean matches din at dimension 8 from dimension 16 on."


def test_the_encoders_are_compared_at_each_dimension():
    lines = findings(TRIALS[:3], CompareConfig(dimensions=(8,)))
    assert lines == [
        "At dimension 8 din has AUC 0.8100 ± 0.0141, mean 0.7000 ± 0.0000: +55.0% relative"
        " improvement.",
        "mean matches din at dimension 8 at no dimension up to 8.",
    ]
