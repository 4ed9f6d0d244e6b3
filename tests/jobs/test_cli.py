"""The command line that all jobs share."""

import sys
from datetime import date

from jobs.cli import main
from tests.nights import DEMO


def test_options_and_words_stand_in_any_order(monkeypatch):
    words = f"--config {DEMO} train.epochs=7 --date 2026-11-20 train.window=2 --model 3"
    monkeypatch.setattr(sys, "argv", ["job", *words.split()])
    seen = []
    main(lambda *given: seen.append(given), None, options={"model": "score.model"})
    [(settings, day)] = seen
    assert (settings.train.epochs, settings.train.window, settings.score.model) == (7, 2, "3")
    assert day == date(2026, 11, 20)
