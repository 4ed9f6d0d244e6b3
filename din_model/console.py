"""What is told while work goes on: one line a finished stage, a bar for what is long.

With ``DIN_LOG=json`` in the environment a stage is a line of JSON on standard output, and nothing
else is there: what is meant for people goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

JSON = os.environ.get("DIN_LOG") == "json"

# Whoever asks for colours in a log file (FORCE_COLOR) has not asked for bars that are drawn again.
console = Console(
    stderr=JSON,
    highlight=False,
    soft_wrap=True,
    force_interactive=None if (sys.stderr if JSON else sys.stdout).isatty() else False,
)


@dataclass
class Stage:
    """A stage under way; set ``rows`` (and ``note``) before it ends to have them told."""

    name: str
    rows: int | None = None
    note: str = ""
    seconds: float = 0.0
    ended: datetime | None = None

    def end(self, began: float) -> None:
        """``began``: as time.perf_counter tells it."""
        self.seconds, self.ended = time.perf_counter() - began, datetime.now(timezone.utc)


_ended: ContextVar[list[Stage] | None] = ContextVar("ended", default=None)


@contextmanager
def recorded() -> Iterator[list[Stage]]:
    """The stages that end well within the block, in order, as they end."""
    stages: list[Stage] = []
    token = _ended.set(stages)
    try:
        yield stages
    finally:
        _ended.reset(token)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Tell ``name``, rows and seconds when the block ends well; a spinner meanwhile.

    As JSON, a stage that fails is told too, with the error's name as ``failed``.
    """
    report, start = Stage(name), time.perf_counter()
    try:
        if console.is_interactive:
            with console.status(name):
                yield report
        else:
            yield report
    except BaseException as error:
        report.end(start)
        if JSON:
            _tell_machine(report, {"failed": type(error).__name__})
        raise
    report.end(start)
    if (stages := _ended.get()) is not None:
        stages.append(report)
    if JSON:
        _tell_machine(report, {})
        return
    rows = "" if report.rows is None else f"{report.rows:,} rows"
    console.print(f"  {name:<34} {rows:>18} {report.seconds:>7.1f} s  {report.note}".rstrip())


def _tell_machine(report: Stage, more: dict[str, str]) -> None:
    if console.quiet or report.ended is None:
        return
    told = {
        "time": report.ended.isoformat(timespec="milliseconds"),
        "stage": report.name,
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "note": report.note,
    }
    print(json.dumps(told | more), flush=True)


def track(
    batches: Iterable[T], total: int, title: str, numbers: Mapping[str, float]
) -> Iterator[T]:
    """Pass ``batches`` through, drawing a bar in a terminal and nothing elsewhere.

    Beside the bar stand ``numbers`` by their names, as they are at the time.
    """
    columns = (
        TextColumn("  {task.description}"), BarColumn(20), MofNCompleteColumn(),
        TimeRemainingColumn(), _Numbers(numbers),
    )  # fmt: skip
    quiet = not console.is_interactive
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        yield from bar.track(batches, total=total, description=title)


class _Numbers(ProgressColumn):
    """Numbers by their names; written out when the bar is drawn, not in every step."""

    def __init__(self, numbers: Mapping[str, float]) -> None:
        super().__init__()
        self.numbers = numbers

    def render(self, task: Task) -> Text:
        now = dict(self.numbers)  # the bar is drawn in a thread of its own
        said = [f"{n} {v:,.0f}" if v >= 1000 else f"{n} {v:.3g}" for n, v in now.items()]
        return Text("  ".join(said))
