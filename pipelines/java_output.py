"""Masks the secrets in what Java says on standard error.

Java's own messages name paths, addresses and settings, which may hold values of variables.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from din_model.masking import masked

END_OF_LINE = re.compile(rb"(?<=[\n\r])")
"""A progress bar ends its lines by ``\\r`` only."""


@contextmanager
def masked_stderr() -> Iterator[threading.Thread]:
    """Have processes that start within the block write to standard error through ``masked``.

    They inherit a pipe in place of file descriptor 2. A thread copies what they write line by line,
    until the last of them has ended; the block yields it.
    """
    ours = os.dup(2)
    reading, writing = os.pipe()
    copying = threading.Thread(target=_copy, args=(reading, os.dup(2)), daemon=True)
    copying.start()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield copying
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _copy(source: int, target: int) -> None:
    rest = b""
    with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(target, "wb", buffering=0) as out:
        while chunk := lines.read(1 << 16):
            *whole, rest = END_OF_LINE.split(rest + chunk)
            out.write(masked(b"".join(whole).decode(errors="replace")).encode())
        out.write(masked(rest.decode(errors="replace")).encode())
