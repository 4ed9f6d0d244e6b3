"""What a person sees while work goes on: one line a finished stage, a bar for what is long."""

import time
from collections.abc import Iterable, Iterator, Mapping
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


def track(
    batches: Iterable[T], total: int, title: str, numbers: Mapping[str, float]
) -> Iterator[T]:
    """Pass ``batches`` through, drawing a bar in a terminal and nothing elsewhere.

    Beside the bar stand ``numbers`` by their names, as they are at the time.
    """
    columns = (
        TextColumn("  {task.description}"), BarColumn(20), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"),
    )  # fmt: skip
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(title, total=total, numbers="")
        for batch in batches:
            yield batch
            said = [f"{n} {v:,.0f}" if v >= 1000 else f"{n} {v:.3g}" for n, v in numbers.items()]
            bar.update(task, advance=1, numbers="  ".join(said))
