"""What a person sees while work goes on: one line a finished stage, a bar for what is long."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)


class Stage:
    """A stage under way; set ``rows`` (and ``note``) before it ends to have them printed."""

    def __init__(self) -> None:
        self.rows: int | None = None
        self.note = ""


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Print ``name``, rows and seconds when the block ends well; a spinner meanwhile."""
    report, start = Stage(), time.perf_counter()
    if console.is_terminal:
        with console.status(name):
            yield report
    else:
        yield report
    rows = "" if report.rows is None else f"{report.rows:,} rows"
    seconds = time.perf_counter() - start
    console.print(f"  {name:<34} {rows:>18} {seconds:>7.1f} s  {report.note}".rstrip())


def track(batches: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Pass ``batches`` through, drawing a bar in a terminal and nothing elsewhere."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
    quiet = not console.is_terminal
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=quiet)
    with bar:
        yield from bar.track(batches, total=total, description=title)
