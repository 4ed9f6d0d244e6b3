"""The one exception for what a person can mend: bad input, bad configuration, a missing model."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """One line that names the file, key or column, the count, and the way out.

    The jobs print it without a stack trace and exit with a non-zero status.
    """


@contextmanager
def reading(url: str) -> Iterator[None]:
    """While pyarrow reads a published file: one line that names it, if that cannot be done."""
    from pyarrow.lib import ArrowException  # not above: din_model.features needs nothing installed

    try:
        yield
    except (ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise InputError(
            f"{url}: cannot be read ({why}): put the file back, or build its date again"
        ) from None
