"""Masks the secrets in what Java says on standard error.

Java's own messages name paths, addresses and settings, which may hold values of variables.
"""

import atexit
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from select import select
from time import sleep

from din_model.masking import masked

END_OF_LINE = re.compile(rb"(?<=[\n\r])")
"""A progress bar ends its lines by ``\\r`` only."""

NOISE = re.compile(rb"WARNING: Using incubator modules: ")
"""Of the Java that Spark 4 starts with a module that Java has not released."""


@contextmanager
def masked_stderr() -> Iterator[threading.Thread]:
    """Have processes that start within the block write to standard error through ``masked``.

    They inherit a pipe in place of file descriptor 2. A thread copies what they write line by line,
    until the last of them has ended; the block yields it. If this process ends before them, it
    first copies what they have written so far.
    """
    ours = os.dup(2)
    reading, writing = os.pipe()
    between = threading.Lock()
    copying = threading.Thread(target=_copy, args=(reading, os.dup(2), between), daemon=True)
    copying.start()
    atexit.register(_drain, reading, between)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield copying
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _copy(source: int, target: int, between: threading.Lock) -> None:
    """Copy until the end; ``between`` is free while nothing that was read is unwritten."""
    rest = b""
    with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(target, "wb", buffering=0) as out:
        ended = False
        while not ended:
            select([lines], [], [])
            with between:
                chunk = lines.read(1 << 16)
                *whole, rest = END_OF_LINE.split(rest + chunk)
                ended = not chunk
                said = [line for line in whole if not NOISE.match(line)]
                ready = b"".join(said) + (rest if ended else b"")
                out.write(masked(ready.decode(errors="replace")).encode())


def _drain(source: int, between: threading.Lock) -> None:
    """Wait until everything is copied that lies in the pipe."""
    with suppress(OSError, ValueError):  # it is closed: copied to the end
        while select([source], [], [], 0)[0]:
            sleep(0.01)
        between.acquire(timeout=1)
