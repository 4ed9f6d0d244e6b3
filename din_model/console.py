"""Progress output: one line per finished stage, a bar for long work.

With ``DIN_LOG=json`` in the environment, each stage is one JSON line on standard output, and all
other output goes to standard error.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

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

from din_model.masking import masked

T = TypeVar("T")

JSON = os.environ.get("DIN_LOG") == "json"

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, colour, or turn the line round; a log may hold them."""


def printable(text: str) -> str:
    """Return a text without secrets and control characters."""
    return UNPRINTABLE.sub("", masked(text))


class _Console(Console):
    """Prints texts as they are: brackets are no markup, and control characters are dropped."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; see rich.console.Console.print."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


# FORCE_COLOR asks for colours in a log file, not for progress bars that redraw themselves.
console = _Console(
    stderr=JSON,
    markup=False,
    emoji=False,
    highlight=False,
    soft_wrap=True,
    force_interactive=None if (sys.stderr if JSON else sys.stdout).isatty() else False,
)


@dataclass
class Stage:
    """A running stage. Set ``rows`` and ``note`` before it ends to print them."""

    name: str
    rows: int | None = None
    note: str = ""
    seconds: float = 0.0
    ended: datetime | None = None

    def end(self, began: float) -> None:
        """Record the end; ``began`` is a value of time.perf_counter."""
        self.seconds, self.ended = time.perf_counter() - began, datetime.now(UTC)


_ended: ContextVar[list[Stage] | None] = ContextVar("ended", default=None)


@contextmanager
def recorded() -> Iterator[list[Stage]]:
    """Collect the stages that end without an error within the block, in order."""
    stages: list[Stage] = []
    token = _ended.set(stages)
    try:
        yield stages
    finally:
        _ended.reset(token)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Print ``name``, rows and seconds when the block ends; show a spinner meanwhile.

    With JSON output, a failed stage is printed too, with the error's class name as ``failed``.
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
            _print_json(report, {"failed": type(error).__name__})
        raise
    report.end(start)
    if (stages := _ended.get()) is not None:
        stages.append(report)
    if JSON:
        _print_json(report, {})
        return
    rows = "" if report.rows is None else f"{report.rows:,} rows"
    console.print(f"  {name:<34} {rows:>18} {report.seconds:>7.1f} s  {report.note}".rstrip())


def _print_json(report: Stage, more: dict[str, str]) -> None:
    if console.quiet or report.ended is None:
        return
    line = {
        "time": report.ended.isoformat(timespec="milliseconds"),
        "stage": report.name,
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "note": masked(report.note),
    }
    print(json.dumps(line | more), flush=True)


def track(
    batches: Iterable[T], total: int, title: str, numbers: Mapping[str, float]
) -> Iterator[T]:
    """Pass ``batches`` through and draw a progress bar in a terminal.

    Args:
        batches: what to iterate over.
        total: the number of batches.
        title: text in front of the bar.
        numbers: current values by name, shown beside the bar.
    """
    columns = (
        TextColumn("  {task.description}"), BarColumn(20), MofNCompleteColumn(),
        TimeRemainingColumn(), _Numbers(numbers),
    )  # fmt: skip
    quiet = not console.is_interactive
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        yield from bar.track(batches, total=total, description=title)


class _Numbers(ProgressColumn):
    """Numbers by name, formatted only when the bar is redrawn."""

    def __init__(self, numbers: Mapping[str, float]) -> None:
        super().__init__()
        self.numbers = numbers

    def render(self, task: Task) -> Text:  # noqa: ARG002 (rich's signature)
        """Format the current values."""
        current = dict(self.numbers)  # the bar is drawn in its own thread
        texts = [f"{n} {v:,.0f}" if v >= 1000 else f"{n} {v:.3g}" for n, v in current.items()]
        return Text("  ".join(texts))
