"""The command line that all jobs share."""

import os
import signal
import sys
from datetime import date

import mlflow
import pytest

from din_model.console import console
from din_model.registry import tracking
from jobs.cli import Settings, _print_trace, main
from tests.nights import DEMO


def test_options_and_overrides_may_come_in_any_order(monkeypatch):
    words = f"--config {DEMO} train.epochs=7 --date 2026-11-20 train.window=2 --model 3"
    monkeypatch.setattr(sys, "argv", ["job", *words.split()])
    seen = []
    main(lambda *given: seen.append(given), None, options={"model": "score.model"})
    [(settings, day)] = seen
    assert (settings.train.epochs, settings.train.window, settings.score.model) == (7, 2, "3")
    assert day == date(2026, 11, 20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train.epoch=2", "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("--config nowhere.yaml", "nowhere.yaml: no such configuration file"),
        ("date=null", "--date is missing"),
        ("train.epochs=many", "'train.epochs'"),
        ("train.epochs", "'train.epochs': write an override as key.sub=value"),
    ],
)
def test_bad_input_ends_a_job_with_one_line_and_status_2(monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["job", "--config", str(DEMO), *words.split()])
    monkeypatch.setattr(console, "_file", None)  # main points it to standard error
    with pytest.raises(SystemExit) as ended:
        main(lambda *given: None, None)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_bug_in_a_job_keeps_its_stack_trace(monkeypatch):
    def fail(settings: Settings, day: date) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(sys, "argv", ["job", "--config", str(DEMO)])
    with pytest.raises(KeyError, match="a bug"):
        main(fail, None)


def test_sigterm_ends_a_job_with_one_line_and_closes_its_run_as_killed(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["job", "--config", str(DEMO)])
    monkeypatch.setattr(console, "_file", None)

    def work(settings: Settings, day: date) -> None:
        tracking.connect(settings.tracking, f"file://{tmp_path}")
        with tracking.run("outer", {}, {}), tracking.run("inner", {}, {}):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main(work, None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ended by SIGTERM")
    runs = mlflow.search_runs(experiment_names=["din-demo"])
    assert list(runs["status"]) == ["KILLED", "KILLED"]


def test_a_trace_is_printed_without_secrets(capsys):
    try:
        raise KeyError("postgresql://me:hunter2@host")
    except KeyError as error:
        _print_trace(KeyError, error, error.__traceback__)
    trace = capsys.readouterr().err
    assert "KeyError: 'postgresql://me:***@host'" in trace
    assert "hunter2" not in trace
