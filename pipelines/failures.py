"""Turns the error that ended a job into one line for a person; any other error is a bug."""

import re
from collections.abc import Iterator
from traceback import walk_tb

from py4j.protocol import Py4JNetworkError

from din_model.errors import InputError
from din_model.masking import masked
from din_model.registry.tracking import TrackingError, address

ON_AN_EXECUTOR = re.compile(r"InputError: (.*)")
FULL = re.compile(r"No space left on device.*|database or disk is full")
LOST = re.compile(
    r"Python worker exited unexpectedly|ExecutorLostFailure|return code -9"
    r"|SocketException: (?:Connection reset|Broken pipe)"
)
UNREADABLE = (
    re.compile(r"(?P<file>\S+\.parquet) (?P<why>is not a Parquet file.*)"),
    re.compile(r"(?P<why>Could not read footer) for file: FileStatus\{path=(?P<file>[^;]+);"),
    re.compile(r"(?P<why>Encountered error while reading) file (?P<file>\S+?)\. "),
)
"""Spark's messages about a Parquet file that it cannot read, at various depths of its trace."""
NAMELESS = re.compile(r"corrupted file: .*|can not read class org\.apache\.parquet.*")
"""Its messages that do not name the file."""

LONGEST = 2000
"""Letters of a line; a value in a configuration or log may have any number."""

CUT_OFF = re.compile(
    r"java\.util\.zip\.(?:Zip|DataFormat)Exception: [^\n]*|java\.io\.(?:IO|EOF)Exception: "
    r"(?:Unexpected end of input stream|unexpected end of stream|incorrect (?:data|header) check"
    r"|invalid (?:block|stored|distance|code|bit)[^\n]*|stored gzip [^\n]*|crc error)"
)
"""What codecs say of a compressed file that is cut off or damaged."""


def one_line(error: Exception) -> str | None:
    """Return the message for a person, also from an executor or a rank; None for a bug."""
    line = _message(error)
    if line is None:
        return None
    line = " ".join(line.splitlines())
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 + 3 :]}"  # its end says what to do


def _message(error: Exception) -> str | None:
    if isinstance(error, TrackingError):
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if first.startswith("("):  # a database's own error, which does not say of which database
            first = f"{address()}: {first}"
        return masked(f"tracking: {first}")
    fixable = error if isinstance(error, InputError) else machine_failure(error)
    if fixable is None and (match := ON_AN_EXECUTOR.search(str(error))):
        return masked(match[1])
    return str(fixable) if fixable else None


def machine_failure(error: Exception) -> InputError | None:
    """Return the line for what a machine does to a job; None for anything else."""
    text = str(error)
    # What follows a lost Java process fails too, and hides the first error.
    if any(_lost_java(each) for each in _chain(error)):
        return InputError(
            "Spark's Java process has ended, usually because the machine ran out of memory: free"
            " some, or lower spark.driver.memory, then run the job again; published data is"
            " unchanged"
        )
    if isinstance(error, PermissionError):
        return InputError(
            f"{error.filename or text}: this user may not read or write it: correct its"
            " permissions, or the path in the configuration"
        )
    if match := FULL.search(text):
        return InputError(
            f"{match[0]}: free space on the store's disk and on Spark's (spark.local.dir), then run"
            " the job again; published data is unchanged"
        )
    if match := LOST.search(text):
        return InputError(f"a Spark task was lost ({match[0]}): run the job again")
    if match := CUT_OFF.search(text):
        return InputError(
            f"a compressed log cannot be read ({match[0]}); Spark does not name it: find it with"
            " gzip -t, and replace it"
        )
    for pattern in UNREADABLE:
        if match := pattern.search(text):
            return InputError(
                f"{match['file']}: cannot be read ({match['why']}): replace the log file, or build"
                " the date again if the file is in the store"
            )
    if match := NAMELESS.search(text):
        return InputError(
            f"a Parquet file cannot be read ({match[0]}); Spark does not name it: replace the"
            " damaged log of the date, or build the date again"
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those before it, while which it was raised."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _lost_java(error: BaseException) -> bool:
    """Whether an error is py4j's, which finds no Java process at the other end."""
    if isinstance(error, Py4JNetworkError):
        return True
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return isinstance(error, ConnectionError) and any(n.startswith("py4j.") for n in frames)
