"""The exception for what a person can fix: bad input, bad configuration, a missing model."""

from collections.abc import Iterator
from contextlib import contextmanager

from din_model.masking import masked


class InputError(Exception):
    """One line that names the file, key or column, the count, and what to do.

    The jobs print it without a stack trace and exit with status 2. Secrets in it are masked.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn pyarrow's errors about the published file ``url`` into one line that names it."""
    from pyarrow.lib import ArrowException  # imported here: din_model.features needs stdlib only

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{url}: cannot be read ({reason}): restore the file, or build its date again"
        ) from None
