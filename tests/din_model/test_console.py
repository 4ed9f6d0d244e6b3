import contextlib
import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from din_model import console as progress


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
    assert "epoch 1 of 1" in seen
    assert "4/4" in seen
    assert "loss 0.4  rows_per_s 20,000" in seen


def test_a_log_file_gets_no_bar(monkeypatch):
    assert drawn(monkeypatch, terminal=False) == ""


WORK = """
from din_model import console as progress
with progress.stage("good") as report:
    report.rows, report.note = 12_345, "a note"
list(progress.track(range(4), 4, "epoch", {}))
progress.console.print("for people", style="bold")
with progress.stage("bad"):
    raise ValueError("broken")
"""


def work(**environment: str) -> subprocess.CompletedProcess[str]:
    env = {n: v for n, v in os.environ.items() if n not in ("DIN_LOG", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-c", WORK], env=env | environment, capture_output=True, text=True
    )


def test_stages_are_json_on_stdout_and_text_on_stderr():
    done = work(DIN_LOG="json")
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["stage"], good["rows"], good["note"]) == ("good", 12_345, "a note")
    assert good["seconds"] >= 0
    assert "failed" not in good
    moment = datetime.fromisoformat(good["time"])
    assert moment.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - moment) < timedelta(hours=1)
    assert (bad["stage"], bad["failed"]) == ("bad", "ValueError")
    assert "for people" in done.stderr
    assert "ValueError: broken" in done.stderr


@pytest.mark.parametrize("colours", [{}, {"FORCE_COLOR": "1"}])
def test_a_log_file_gets_complete_lines_only(colours):
    done = work(**colours)
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in done.stdout.split("\n")]
    assert re.fullmatch(r"  good +12,345 rows +[\d.]+ s  a note", lines[0])
    assert lines[1:] == ["for people", ""]


def test_stages_that_end_in_the_block_are_recorded():
    with progress.stage("before"):
        pass
    with progress.recorded() as stages:
        with progress.stage("one") as report:
            report.rows = 3
        with contextlib.suppress(ValueError), progress.stage("failed"):
            raise ValueError
        assert [(stage.name, stage.rows) for stage in stages] == [("one", 3)]
    with progress.stage("after"):
        pass
    assert len(stages) == 1
    assert stages[0].ended is not None


def test_brackets_are_no_markup_and_control_characters_are_dropped(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress.console, "_file", out)
    progress.console.print("[new] shoes [/b] :smile: \x1b[31mred\x1b[0m\r\x07\u202ekcab")
    assert out.getvalue() == "[new] shoes [/b] :smile: [31mred[0mkcab\n"


def test_secrets_are_not_printed(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress.console, "_file", out)
    progress.console.print("runs: https://me:hunter2@host")
    assert out.getvalue() == "runs: https://me:***@host\n"
