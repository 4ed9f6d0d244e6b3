"""Nights as a scheduler starts them: one at a time in a store, patient with late logs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from din_model.config import load
from din_model.errors import InputError
from jobs import nightly
from jobs.cli import Settings
from pipelines.ingest.synthetic import generate
from pipelines.store.store import Store
from tests.jobs.test_command_line import TINY
from tests.nights import demo, environment

DAY = date(2026, 11, 20)
NEXT = DAY + timedelta(days=1)
PATIENT = ["nightly.wait=1h", "nightly.poll=50ms"]


def command(folder: Path, *words: str) -> list[str]:
    night = [sys.executable, "-m", "jobs.nightly", "--config", demo(folder)]
    return [*night, "--date", str(DAY), *TINY, *words]


def refused(folder: Path, *words: str) -> str:
    """Run a night that fails; return its only line."""
    done = subprocess.run(
        command(folder, *words), cwd=folder, env=environment(), capture_output=True, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


@contextmanager
def waiting(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A night that waits, and the line in which it says so."""
    env = environment() | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(folder, *PATIENT), cwd=folder, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as night:  # fmt: skip
        try:
            assert night.stdout is not None
            yield night, next(said for said in night.stdout if said.startswith("  waiting"))
        finally:
            if night.poll() is None:
                os.killpg(night.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_night_waits_for_late_candidates_and_blocks_a_second_night(spark, tmp_path):
    settings = load(Settings, [demo(tmp_path)], TINY)
    assert settings.generate is not None
    generate(spark, settings.generate)
    candidates = tmp_path / f"out/demo/logs/candidates/date={NEXT}"
    candidates.rename(tmp_path / "late")
    store = Store(settings.store.path)
    with waiting(tmp_path) as (night, line):
        assert line == (
            f"  waiting up to 1h: sources.candidates: no data for {NEXT}: {candidates}"
            " does not exist\n"
        )
        assert refused(tmp_path) == (
            f"error: {store.url}: another night is running in this store; run again when it has"
            " ended"
        )
        assert store.dates("examples") == [], "nothing is built before all is there"
        (tmp_path / "late").rename(candidates)
        assert night.stdout is not None
        rest = []
        for line in night.stdout:
            rest.append(line)
            if " counts " in line:
                break
    built = store.dates("counts")
    assert len(built) == 1, f"a build takes its own lock inside of the night's: {rest}"
    assert not [line for line in rest if "waiting" in line]


@pytest.mark.slow
def test_a_killed_night_leaves_no_lock_and_a_missing_day_is_reported(tmp_path):
    impressions = tmp_path / f"out/demo/logs/impressions/date={DAY}"
    missing = f"sources.impressions: no data for {DAY}: {impressions} does not exist"
    with waiting(tmp_path) as (night, line):
        assert line == f"  waiting up to 1h: {missing}\n"
        assert (tmp_path / "out/demo/store/.night.lock").exists()
        night.kill()  # the driver alone: what it started may outlive it by a moment
        night.wait()
        said = refused(tmp_path, "nightly.wait=0s")
    assert said == f"error: {missing}, and nightly.wait of 0s is over"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_without_a_date_a_night_is_yesterday_in_the_time_zone_of_the_logs(spark, tmp_path, zone):
    settings = load(Settings, [demo(tmp_path)], [f"features.time_zone={zone}"])

    def yesterday() -> date:
        return datetime.now(ZoneInfo(zone)).date() - timedelta(days=1)

    before = yesterday()
    with pytest.raises(InputError, match="no data for ") as error:
        nightly.run(settings, None)
    assert any(f"no data for {day}: " in str(error.value) for day in {before, yesterday()})
