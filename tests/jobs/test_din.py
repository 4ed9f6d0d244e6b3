"""The command ``din`` runs each job by its name, and explains itself."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from jobs import din

JOBS = Path(din.__file__).parent


def called(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jobs.din import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=JOBS.parent)


def test_every_job_is_a_command() -> None:
    jobs = {path.stem for path in JOBS.glob("*.py")} - {"__init__", "cli", "din"}
    assert set(din.COMMANDS.values()) == jobs


def test_the_manual_has_a_line_for_each_command() -> None:
    lines = din.manual().splitlines()
    assert "  score     Score the candidates of a date with a registered model, and publish the"\
        " table." in lines  # fmt: skip
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in din.COMMANDS)


def test_a_command_reads_the_jobs_own_arguments() -> None:
    job = called("rollback", "--config", "missing.yaml")
    assert (job.returncode, job.stdout) == (2, "")
    assert job.stderr == "error: missing.yaml: no such configuration file\n"
    manual = called("score", "--help")
    assert manual.stdout.startswith("usage: din score [-h] --config CONFIG")


@pytest.mark.parametrize(
    ("command", "hint"),
    [("nighly", "did you mean nightly?"), ("x", "din --help lists the commands")],
)
def test_an_unknown_command_is_one_line(command: str, hint: str) -> None:
    job = called(command)
    assert job.returncode == 2
    assert job.stderr == f"error: din has no command {command!r}: {hint}\n"


def test_completion_offers_the_commands() -> None:
    words = subprocess.run(
        ["bash", "-c", f"{called('completion', 'bash').stdout}complete -p din"],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert '-W "init generate check' in words.replace("'", '"')


def test_the_package_installs_the_command() -> None:
    (script,) = entry_points(group="console_scripts", name="din")
    assert script.load() is din.main
