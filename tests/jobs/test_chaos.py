"""The plan of the fault campaign (python -m tests.chaos), and one of its rounds."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, plan
from tests.nights import environment


@pytest.mark.parametrize("seed", [1, 2019])
def test_thirty_rounds_play_every_fault_twice_in_a_seeded_order(seed):
    drawn = plan(seed, 30, FAULTS)
    assert Counter(drawn) == dict.fromkeys(FAULTS, 2)
    assert drawn == plan(seed, 30, FAULTS) != plan(seed + 1, 30, FAULTS)


def campaign(work: Path) -> list[str]:
    """Run a campaign of one round; return its output by line."""
    command = [sys.executable, "-m", "tests.chaos", "--rounds", "1", "--only", "driver_killed"]
    done = subprocess.run(
        [*command, "--work", str(work)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_round_passes_and_a_campaign_resumes_from_its_tally(tmp_path):
    first, again = campaign(tmp_path), campaign(tmp_path)
    assert [line.split()[:3] for line in first[-2:-1]] == [["1", "driver_killed", "passed"]]
    assert first[-1] == "1 passed, 0 failed"
    assert again == first[-1:], "passed rounds are not repeated"
