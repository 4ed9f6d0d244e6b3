"""What a night prints holds texts of the logs as they are."""

import io

from din_model import console as progress
from pipelines.reports import terminal
from pipelines.reports.explanation import Explained, Offer, Reason


def test_brackets_in_item_keys_are_printed(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress.console, "_file", out)
    why = (Reason(0.25, "clicks", "[red]\x1b[31m boots"),)
    offers = (Offer(1, "i1 ([new] shoes [/b])", 0.5, why),)
    terminal._print_best(Explained("u[1]", 3, offers), "user_id")
    lines = [line for line in out.getvalue().splitlines() if line]
    assert lines == [
        "  user_id u[1]: best candidates, and what weighed most",
        "  1. i1 ([new] shoes [/b])   score 0.500",
        "       0.250  clicks: [red][31m boots",
    ]


def test_a_reference_that_ranks_like_chance_says_nothing_of_what_is_possible():
    metrics = {"din": {"auc": 0.6}, "reference": {"auc": 0.7}}
    assert terminal.share_of_possible(metrics, "din").endswith("= 0.500")
    for auc in (0.5, float("nan")):
        assert terminal.share_of_possible(metrics | {"reference": {"auc": auc}}, "din") == ""
