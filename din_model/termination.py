"""SIGTERM ends a job by an exception: stages clean up, and runs are closed as KILLED.

What surfaces may be another exception, of a cleanup that fails. ``received`` tells how the job has
ended.
"""

import logging
import signal
import sys
from typing import Any

STATUS = 143
"""Exit status of a job that SIGTERM has ended."""

AGAIN = 0.01
"""Seconds until a dropped exception is raised again."""

_received = False


def handle() -> None:
    """Handle SIGTERM from now on."""
    global _received
    _received = False
    signal.signal(signal.SIGTERM, _end)
    sys.unraisablehook = _dropped


def received() -> bool:
    """Return whether SIGTERM has ended this job."""
    return _received


def _end(*_: Any) -> None:
    global _received
    _received = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # while it cleans up
    logging.disable()  # libraries log the errors that this causes with their traces
    # Py4J closes a connection that this interrupts. After any other exception, its next call would
    # take the answer of the interrupted call for its own.
    raise KeyboardInterrupt


def _dropped(error: "sys.UnraisableHookArgs") -> None:
    """Print an exception that Python has dropped, as in a callback of the garbage collector."""
    if not _received:
        sys.excepthook(error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback)
    elif isinstance(error.exc_value, KeyboardInterrupt):
        signal.signal(signal.SIGALRM, _end)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
