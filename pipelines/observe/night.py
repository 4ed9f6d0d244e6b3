"""What is known of a night when it ends, however it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

from din_model.console import Stage
from pipelines.failures import one_line
from pipelines.reports.nightly import NightSummary
from pipelines.scoring.guards import Breach
from pipelines.store.publishing import Publication
from pipelines.training.gate import StoppedError

State = Literal["published", "held_back", "stopped", "failed"]
"""How a night ends: a guard holds its scores back, the gate lets no version score, or it fails."""


@dataclass
class NightRecord:
    """A night as it goes on; the job fills it in.

    Attributes:
        model: registered name of the model.
        day: the date.
        began: when it began.
        stages: those that ended, see din_model.console.recorded.
        published: what was published, or failed to be.
        summary: its results; None before the gate has decided.
        ended: when it ended.
        state: how it ended.
    """

    model: str
    day: date
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    stages: Sequence[Stage] = ()
    published: Sequence[Publication] = ()
    summary: NightSummary | None = None
    ended: datetime | None = None
    state: State = "failed"

    def end(self, error: BaseException | None) -> None:
        """Record the end of the night, and the error that ended it, if any."""
        self.ended, self.state = datetime.now(UTC), state_after(error)


def state_after(error: BaseException | None) -> State:
    """Return how a night ended that this error ended, or none."""
    if error is None:
        return "published"
    if isinstance(error, Breach):
        return "held_back"
    return "stopped" if isinstance(error, StoppedError) else "failed"


def reason(error: BaseException) -> str:
    """Return one line on an error, with what to do."""
    if not isinstance(error, Exception):
        return "ended by SIGTERM or Ctrl-C: start it again"
    line = one_line(error)
    return line or f"a bug ({type(error).__name__}): start it again, and keep the log"
