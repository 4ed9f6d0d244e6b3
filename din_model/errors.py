"""The one exception for what a person can mend: bad input, bad configuration, a missing model."""


class InputError(Exception):
    """One line that names the file, key or column, the count, and the way out.

    The jobs print it without a stack trace and exit with a non-zero status.
    """
