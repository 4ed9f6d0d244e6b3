"""Batches made in a thread of their own, so that a training step need not wait for its data."""

import time
from collections.abc import Generator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 4
PATIENCE = 0.1  # seconds between two looks whether the reader is still wanted


class Throughput:
    """Rows trained on, and seconds spent waiting for data, since somebody last asked."""

    def __init__(self) -> None:
        self.rows, self.waited, self._since = 0, 0.0, time.perf_counter()

    def take(self) -> dict[str, float]:
        """Rows a second and the share of time spent waiting (0 to 1); begins anew."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        found = {"rows_per_s": self.rows / seconds, "waiting": self.waited / seconds}
        self.rows, self.waited, self._since = 0, 0.0, now
        return found


def prefetch(
    items: Generator[T, None, None], pace: Throughput, depth: int = DEPTH
) -> Generator[T, None, None]:
    """Yield ``items`` in their order, ``depth`` of them made in advance.

    What ``items`` raises is raised here. Where the caller stops early, ``items`` is closed.
    """
    line: Queue[tuple[Any, BaseException | None]] = Queue(depth)
    end, unwanted = object(), Event()

    def offer(item: Any, error: BaseException | None = None) -> None:
        while not unwanted.is_set():
            try:
                return line.put((item, error), timeout=PATIENCE)
            except Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                offer(item)
                if unwanted.is_set():
                    return items.close()
            offer(end)
        except BaseException as error:  # whatever it is, it belongs to the training loop
            offer(end, error)

    thread = Thread(target=fill, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            start = time.perf_counter()
            item, error = line.get()
            pace.waited += time.perf_counter() - start
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        unwanted.set()
        thread.join()
