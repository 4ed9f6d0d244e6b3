"""What ended a job, as the one line that a person can act on; what is not told here is a bug."""

import re

from din_model.errors import InputError
from din_model.registry.tracking import TrackingError

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
"""What Spark says of a Parquet file that it cannot read, at various depths of its trace."""
NAMELESS = re.compile(r"corrupted file: .*|can not read class org\.apache\.parquet.*")
"""What it says of one where it does not say which."""


def one_line(error: Exception) -> str | None:
    """The message for a person, also of what happened on an executor or a rank; None: a bug."""
    if isinstance(error, TrackingError):
        return f"tracking: {str(error).splitlines()[0]}"
    mendable = error if isinstance(error, InputError) else of_the_machine(error)
    if mendable is None and (found := ON_AN_EXECUTOR.search(str(error))):
        return found[1]
    return str(mendable) if mendable else None


def of_the_machine(error: Exception) -> InputError | None:
    """What a machine lacked, or did to the job, whoever noticed it."""
    text = str(error)
    if found := FULL.search(text):
        return InputError(
            f"{found[0]}: free some, on the store's disk and on Spark's (spark.local.dir), and run"
            " the job again; what was published stands"
        )
    if found := LOST.search(text):
        return InputError(f"a Spark task was lost ({found[0]}): run the job again")
    for pattern in UNREADABLE:
        if found := pattern.search(text):
            return InputError(
                f"{found['file']}: cannot be read ({found['why']}): it is damaged; get it again, or"
                " if it is the store's build its date again"
            )
    if found := NAMELESS.search(text):
        return InputError(
            f"a Parquet file cannot be read ({found[0]}), and Spark does not say which: it is one"
            " of the date's logs, or of the store's files; get it again, or build its date again"
        )
    return None
