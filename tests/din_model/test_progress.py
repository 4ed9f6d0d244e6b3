import io

from rich.console import Console

from din_model import progress


def drawn(monkeypatch, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    monkeypatch.setattr(progress, "console", console)
    numbers = {}
    for step in progress.track(range(4), 4, "epoch 1 of 1", numbers):
        numbers |= {"loss": 0.7 - step / 10, "rows_per_s": 20_000.0}
    return out.getvalue()


def test_a_terminal_shows_the_bar_and_the_numbers_as_they_are(monkeypatch):
    seen = drawn(monkeypatch, terminal=True)
    assert "epoch 1 of 1" in seen and "4/4" in seen and "loss 0.4  rows_per_s 20,000" in seen


def test_a_log_file_gets_no_bar(monkeypatch):
    assert drawn(monkeypatch, terminal=False) == ""
