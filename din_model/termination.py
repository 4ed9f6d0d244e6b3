"""SIGTERM ends a job by an exception: stages clean up, and runs are closed as KILLED.

What surfaces may be another exception, of a cleanup that fails. ``received`` tells how the job has
ended.
"""

import logging
import signal
import sys
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

STATUS = 143
"""Exit status of a job that SIGTERM has ended."""

AGAIN = 0.01
"""Seconds until an exception that was dropped or held back is raised again."""

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


def _end(_: Any, frame: FrameType | None) -> None:
    global _received
    _received = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # while it cleans up
    if _starts_a_process(frame):  # half started, nobody would stop it, and it would print a trace
        _raise_later()
        return
    logging.disable()  # libraries log the errors that this causes with their traces
    # Py4J closes a connection that this interrupts. After any other exception, its next call would
    # take the answer of the interrupted call for its own.
    raise KeyboardInterrupt


def _starts_a_process(frame: FrameType | None) -> bool:
    while frame and frame.f_code is not BaseProcess.start.__code__:
        frame = frame.f_back
    return frame is not None


def _raise_later() -> None:
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _dropped(error: "sys.UnraisableHookArgs") -> None:
    """Print an exception that Python has dropped, as in a callback of the garbage collector."""
    if not _received:
        sys.excepthook(error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback)
    elif isinstance(error.exc_value, KeyboardInterrupt):
        _raise_later()
