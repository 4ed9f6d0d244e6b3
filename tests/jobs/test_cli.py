"""The command line that all jobs share."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from datetime import date

import mlflow
import pytest

from din_model import termination
from din_model.console import console
from din_model.registry import tracking
from jobs.cli import Settings, _print_trace, main
from tests.nights import DEMO, environment


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


class Terminates:
    """Is collected while SIGTERM arrives; Python drops exceptions of such calls."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def in_a_call() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def in_a_call_before_a_cleanup_that_fails() -> None:
    try:
        in_a_call()
    finally:
        raise KeyError("c")


def in_a_callback() -> None:
    Terminates()
    signal.pause()


class Starting:
    """Is pickled for a new process when SIGTERM arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        os.kill(os.getpid(), signal.SIGTERM)
        return Starting, ()


@pytest.fixture
def handlers(monkeypatch):
    """Put back what a job has set for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    yield
    logging.disable(logging.NOTSET)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "terminated", [in_a_call, in_a_call_before_a_cleanup_that_fails, in_a_callback]
)
def test_sigterm_ends_a_job_with_one_line_and_closes_its_runs_as_killed(
    monkeypatch, capsys, tmp_path, handlers, terminated
):
    monkeypatch.setattr(sys, "argv", ["job", "--config", str(DEMO)])
    monkeypatch.setattr(console, "_file", None)

    def work(settings: Settings, day: date) -> None:
        tracking.connect(settings.tracking, f"file://{tmp_path}")
        with tracking.run("outer", {}, {}), tracking.run("inner", {}, {}):
            terminated()

    with pytest.raises(SystemExit) as ended:
        main(work, None)
    assert ended.value.code == 143
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ended by SIGTERM")
    runs = mlflow.search_runs(experiment_names=["din-demo"])
    assert list(runs["status"]) == ["KILLED", "KILLED"]


def test_sigterm_waits_until_a_process_has_started(handlers):
    termination.handle()
    started = multiprocessing.get_context("spawn").Process(target=repr, args=(Starting(),))

    def start() -> None:
        started.start()
        signal.pause()

    with pytest.raises(KeyboardInterrupt):
        start()
    started.join()
    assert started.exitcode == 0


BUSY = """
from pathlib import Path
from jobs.cli import main
from pipelines.session import spark_session

def work(settings, day):
    spark = spark_session("busy", "UTC")
    while True:
        frame = spark.range(100).persist()
        try:
            frame.count()
            Path("busy").touch()
            frame.count()
        finally:
            frame.unpersist()

main(work, None)
"""


@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_amid_calls_to_java_ends_a_job_with_one_line(tmp_path, whole_group):
    command = [sys.executable, "-c", BUSY, "--config", str(DEMO)]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as job:  # fmt: skip
        try:
            while not (tmp_path / "busy").exists():
                assert job.poll() is None, job.communicate()
            (os.killpg if whole_group else os.kill)(job.pid, signal.SIGTERM)
            _, said = job.communicate(timeout=60)
        finally:
            job.kill()
    assert job.returncode == 143, said
    assert len([line for line in said.splitlines() if " WARN " not in line]) == 1, said
    assert said.splitlines()[-1].startswith("ended by SIGTERM")


def test_a_trace_is_printed_without_secrets(capsys):
    try:
        raise KeyError("postgresql://me:hunter2@host")
    except KeyError as error:
        _print_trace(KeyError, error, error.__traceback__)
    trace = capsys.readouterr().err
    assert "KeyError: 'postgresql://me:***@host'" in trace
    assert "hunter2" not in trace
