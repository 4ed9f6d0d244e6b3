"""Files as Spark names them: encoded URIs, addresses, patterns."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError

from din_model.errors import InputError

GLOB = re.compile(r"([\[\]{}*?\\])")
FIELD = re.compile(r"\n(?=  \S)")
"""What stands between the top-level columns of a printed Parquet schema."""

AUTHORITY = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*):(?://(?P<host>[^/]*))?")


class Entry(NamedTuple):
    """A file or a folder; ``uri`` is encoded."""

    uri: str
    is_folder: bool

    @property
    def address(self) -> str:
        """Its address, as a reader of Spark takes it."""
        return unquote(self.uri)

    @property
    def path(self) -> str:
        """Its path in its file system."""
        return path_of(self.address)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


class Footer(NamedTuple):
    """What the footer of a Parquet file says.

    Attributes:
        fields: top-level columns, printed.
        nanoseconds: columns of times in nanoseconds, and whether these are moments in UTC.
        arrow: the schema that Arrow stored, in base64.
        rows: number of rows.
    """

    fields: tuple[str, ...]
    nanoseconds: tuple[tuple[str, bool], ...]
    arrow: str | None
    rows: int

    @classmethod
    def of(cls, schema: str, time: re.Pattern[str], arrow: str | None, rows: int) -> "Footer":
        """Return the footer of a printed schema.

        Args:
            schema: printed, its first line names the message.
            time: matches a column of nanoseconds: its name, and ``true`` if it is in UTC.
            arrow: the schema that Arrow stored, in base64.
            rows: number of rows.
        """
        fields = FIELD.split(schema.rstrip().removesuffix("\n}"))[1:]
        times = [match for field in fields if (match := time.fullmatch(field))]
        nanoseconds = tuple((match[1], match[2] == "true") for match in times)
        return cls(tuple(fields), nanoseconds, arrow, rows)


def path_of(address: str) -> str:
    """Return an address without scheme and host."""
    match = AUTHORITY.match(address)
    return address[match.end() :] if match else address


def escaped(path: str) -> str:
    """Return the pattern that matches this path alone."""
    return GLOB.sub(r"\\\1", path)


def reason(error: Exception) -> str:
    """Return the first line of an error, of Java's where Java raised it."""
    text = error.java_exception.toString() if isinstance(error, Py4JJavaError) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]


def not_an_address(path: str, why: str) -> InputError:
    """Return the error for a path that is neither an address nor a pattern."""
    return InputError(
        f"{path}: no such address or pattern ({why}): correct the path; a [ or {{ that is a part of"
        " a name needs a \\ before it"
    )


def unreadable(file: str, why: str) -> InputError:
    """Return the error for a file of text that cannot be read."""
    return InputError(
        f"{file}: cannot be read ({why}): replace the file, or correct the end of its name"
    )


def unreadable_parquet(file: str, why: str) -> InputError:
    """Return the error for a file that is not Parquet."""
    return InputError(
        f"{file}: cannot be read as Parquet ({why}): replace the file, or set the source's format"
    )
