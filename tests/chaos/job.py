"""A night as a process that can be killed, and what its end must look like."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PYTHON = [sys.executable, "-m", "jobs.nightly"]

PATIENCE = 900
"""Seconds after which a job counts as hanging."""


@dataclass(frozen=True)
class Setting:
    """What a night is started with; the same for the disturbed night of a round and its rerun."""

    command: Sequence[str] = tuple(PYTHON)
    words: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)


ORDINARY = Setting()


@dataclass(frozen=True)
class Job:
    """A night in its own process group, and the file with its output."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def last(self) -> str:
        return next(reversed(self.said.split("\n")[:-1]), "nothing said")

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):  # it has ended
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def running(self, seconds: float) -> bool:
        """Wait at most this long for the end; return whether the job still runs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def must_end(self) -> str:
        """Require exit status 0; return the end for the tally."""
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit {status}: {self.last}\n{self.said}"
        return "ended well"

    def must_refuse(self, pattern: str) -> str:
        """Require exit status 2 and one error line that matches the pattern; return the line."""
        status = self.process.wait(PATIENCE)
        assert status == 2, f"exit {status}: {self.last}\n{self.said}"
        assert len(self.errors) == 1, self.said
        assert "Traceback" not in self.said, self.said
        assert re.search(pattern, self.errors[0]), f"{pattern} is not in {self.errors[0]}"
        return self.errors[0]

    def must_end_or_refuse(self, pattern: str) -> str:
        """Require either end: a fault may come too late, or Spark may recover from it."""
        return self.must_refuse(pattern) if self.process.wait(PATIENCE) else self.must_end()
