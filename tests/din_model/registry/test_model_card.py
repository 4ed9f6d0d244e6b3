"""The model card says what is in the model, and in a registry's Markdown nothing else."""

from dataclasses import replace

import pytest

from din_model.registry.artifact import ModelMetadata
from din_model.registry.model_card import model_card
from tests.din_model.conftest import some_model

METRICS = {"auc": 0.71234, "gauc": 0.65, "log_loss": 0.3, "calibration": float("nan")}
FACTS = ModelMetadata(
    "2026-11-21", "f00", ["a/1", "b/2"], 1200, 1200, {"din": METRICS, "base rate": METRICS}
)


def tables(card: str) -> list[list[list[str]]]:
    """The cells of each table of a Markdown text, its head first; every row as wide as that."""
    found: list[list[list[str]]] = [[]]
    for line in card.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    found = [table for table in found if table]
    assert all(len(row) == len(table[0]) for table in found for row in table)
    return found


def test_the_card_has_the_data_the_metrics_and_how_to_score():
    card = model_card("din", 7, some_model(), FACTS, "2026-11-22")
    for part in (
        "# din, version 7\n",
        "trained through 2026-11-21: 1,200 rows over all epochs, from 2 dates",
        "evaluated on 2026-11-22", "`f00`", "--model 7", '"models:/din/7"',
    ):  # fmt: skip
        assert part in card
    metrics, features, histories = tables(card)
    assert metrics[0] == ["", "auc", "gauc", "log loss", "calibration"]
    assert metrics[2:] == [[who, "0.7123", "0.6500", "0.3000", "-"] for who in FACTS.metrics]
    spec = some_model().spec
    assert [row[0] for row in features[2:]] == [f.name for f in spec.features]
    assert [row[0] for row in histories[2:]] == [h.kind for h in spec.histories]


def test_the_card_of_a_version_without_evaluation_says_so():
    card = model_card("din", 7, some_model(), replace(FACTS, metrics={}), "")
    assert "evaluated on no date" in card
    assert "None: it was not evaluated." in card
    assert len(tables(card)) == 2


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (-2.0, True)])
def test_the_card_says_that_scores_were_shifted(shift, told):
    card = model_card("din", 7, some_model(), replace(FACTS, logit_shift=shift), "2026-11-22")
    assert ("at the click rate configured for sampled negatives" in card) is told
