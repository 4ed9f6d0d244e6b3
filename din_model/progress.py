"""What a person sees while work goes on: one line a finished stage, a bar for what is long."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    quiet = not console.is_terminal
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
