"""Types of settings that allow some values only.

``din_model.config.build`` checks them for every section, so a section needs no code for its ranges,
and docs/configuration.md prints them. Every number of the configuration has one of these types.
"""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from din_model.config import microseconds
from din_model.errors import InputError

MOST = 2**31 - 1
"""Of counts, which end as 32-bit integers in Spark, Arrow and torch."""

LONGEST = 65_536
"""Numbers in a vector, or behaviours in a history."""

CENTURY = 36_500
"""Days. A date or time further away than that overflows."""

DAY = microseconds("1d")


def _duration(text: str) -> str:
    try:
        valid = microseconds(text) <= microseconds(f"{CENTURY}d")
    except (InputError, OverflowError):
        valid = False
    if not valid:
        raise ValueError(f"must be a duration such as 30s, 15m, 2h or 1d, of {CENTURY:,}d at most")
    return text


def _above_zero(text: str) -> str:
    if not microseconds(text):
        raise ValueError("must be longer than 0s")
    return text


def _date(value: Any) -> Any:
    """Return the date of a text that says it in full; pydantic takes a number for seconds."""
    if isinstance(value, date):
        return value
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        day = date.min
    if str(day) != value or not 1970 <= day.year <= 2200:
        raise ValueError("must be a date such as 2026-11-22, from 1970 to 2200")
    return day


def _moment(text: str) -> str:
    text = text.replace("Z", "+00:00")  # which Python reads only from 3.11 on
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None or not 1970 <= moment.year <= 2200:
        raise ValueError("must be a time with its zone, such as 2026-11-22T03:00:00Z")
    return text


def _bounds(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    if None not in bounds and bounds != tuple(sorted(bounds)):  # type: ignore[type-var]
        raise ValueError("the first number must not be above the second")
    return bounds


def _window(text: str) -> str:
    if text != "all" and (not microseconds(_duration(text)) or microseconds(text) % DAY):
        raise ValueError("must be whole days, such as 7d, or all")
    return text


NOT_EMPTY = Field(min_length=1)
Text = Annotated[str, Field(min_length=0, description="text, which may be empty")]
Count = Annotated[int, Field(ge=0, le=MOST, description="whole number from 0")]
Size = Annotated[int, Field(ge=1, le=MOST, description="whole number from 1")]
Length = Annotated[int, Field(ge=1, le=LONGEST, description=f"whole number from 1 to {LONGEST:,}")]
LengthOrZero = Annotated[
    int, Field(ge=0, le=LONGEST, description=f"whole number from 0 to {LONGEST:,}")
]
Days = Annotated[int, Field(ge=1, le=CENTURY, description=f"whole number from 1 to {CENTURY:,}")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="whole number from 0")]
Number = Annotated[float, Field(allow_inf_nan=False, description="number")]
Positive = Annotated[float, Field(gt=0, description="number above 0")]
NotNegative = Annotated[float, Field(ge=0, description="number from 0")]
Factor = Annotated[float, Field(ge=1, description="number from 1")]
Share = Annotated[float, Field(ge=0, le=1, description="number from 0 to 1")]
PositiveShare = Annotated[float, Field(gt=0, le=1, description="number above 0, up to 1")]
Probability = Annotated[float, Field(gt=0, lt=1, description="number between 0 and 1")]
Date = Annotated[date, BeforeValidator(_date), Field(description="date")]
Moment = Annotated[str, AfterValidator(_moment), Field(description="time with its zone")]
Bounds = Annotated[
    tuple[Number | None, Number | None],
    AfterValidator(_bounds),
    Field(description="[least, most], each a number or null"),
]
Duration = Annotated[str, AfterValidator(_duration), Field(description="duration")]
Wait = Annotated[
    str, AfterValidator(_duration), AfterValidator(_above_zero),
    Field(description="duration above 0s"),
]  # fmt: skip
Window = Annotated[str, AfterValidator(_window), Field(description="whole days, or `all`")]
