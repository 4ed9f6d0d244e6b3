"""Prefetch: read batches in a thread, so that a training step does not wait for data."""

import time
from collections.abc import Generator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 4
POLL_SECONDS = 0.1  # how often a blocked reader checks whether the consumer has stopped


class Throughput:
    """Rows trained on and seconds spent waiting for data since the last ``take``."""

    def __init__(self) -> None:
        self.rows, self.waited, self._since = 0, 0.0, time.perf_counter()

    def take(self) -> dict[str, float]:
        """Return rows per second and the share of time spent waiting (0 to 1), and start over."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        values = {"rows_per_s": self.rows / seconds, "waiting": self.waited / seconds}
        self.rows, self.waited, self._since = 0, 0.0, now
        return values


def prefetch(
    items: Generator[T, None, None], pace: Throughput, depth: int = DEPTH
) -> Generator[T, None, None]:
    """Yield ``items`` in order, with up to ``depth`` of them read in advance.

    An exception of ``items`` is raised here. If the caller stops early, ``items`` is closed.
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue(depth)
    end, stopped = object(), Event()

    def offer(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return queue.put((item, error), timeout=POLL_SECONDS)
            except Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                offer(item)
                if stopped.is_set():
                    return items.close()
            offer(end)
        except BaseException as error:  # re-raised in the training loop
            offer(end, error)

    thread = Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            start = time.perf_counter()
            item, error = queue.get()
            pace.waited += time.perf_counter() - start
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
