"""The findings of a comparison, in sentences."""

from dataclasses import replace

from pipelines.reports.comparison import _table, findings
from pipelines.training.grid import CompareConfig, Trial
from tests.pipelines.training.test_grid import TRIALS


def test_the_matching_dimension_is_named():
    lines = findings(TRIALS, CompareConfig(dimensions=(8, 16, 32)))
    assert lines[-1] == "mean matches din at dimension 8 from dimension 16 on."


def test_the_encoders_are_compared_at_each_dimension():
    lines = findings(TRIALS[:3], CompareConfig(dimensions=(8,)))
    assert lines == [
        "At dimension 8 din has AUC 0.8100 ± 0.0141, mean 0.7000: +55.0% relative improvement.",
        "mean matches din at dimension 8 at no dimension up to 8.",
    ]


GRID = CompareConfig(dimensions=(4,), seeds=(1,))


def cells(auc: float) -> list[Trial]:
    numbers = {"auc": auc, "gauc": auc, "log_loss": 0.5, "normalised_entropy": 1.0}
    return [Trial(encoder, 4, 1, numbers) for encoder in ("din", "mean")]


def test_rows_of_one_label_are_said_in_words():
    nan = float("nan")
    assert findings(cells(nan), GRID) == [
        "The evaluation rows have the same label, so there is no AUC to compare by."
    ]
    assert _table(cells(nan))[1][2:5] == ["-", "-", "0.5000"]


def test_encoders_that_rank_like_chance_can_be_compared():
    [sentence] = findings(cells(0.5), GRID)[:1]
    assert sentence.startswith("At dimension 4 din has AUC 0.5000, mean 0.5000")
    assert "nan" not in sentence


def test_a_loss_that_rounds_to_zero_has_no_minus():
    trials = [replace(trial, metrics=trial.metrics | {"auc": auc})
              for trial, auc in zip(cells(0.8), (0.80001, 0.80002), strict=True)]  # fmt: skip
    assert findings(trials, GRID)[0].endswith(": +0.0% relative improvement.")
