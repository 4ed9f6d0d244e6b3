"""Random small logs of one date: each file has types, columns, values and damages of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from pipelines.ingest.sources import start_of

DAY = date(2026, 10, 25)  # clocks change in Copenhagen
ZONES = ("UTC", "Europe/Copenhagen", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
HOUR = 3600 * 10**6
UNITS = {"s": 10**6, "ms": 10**3, "us": 1}

Values = st.SearchStrategy[Any]
CLEAN_TEXT, CLEAN_WHOLE = st.sampled_from(("u0", "u1", "é 😀", "a.b")), st.integers(0, 3)
ODD_TEXT = st.sampled_from(
    ("", " ", "u0 ", "U0", "\x00", "a\x00b", "\x1b[1m", "\u2028", "\u202e", "x" * 5000, "1.0",
     "007", "7.5", "null", "NaN", "-1", "9" * 30, '"', "\\", ",", "'", "`", "{}", "[1]", "\ufeff",
     None)
)  # fmt: skip
ODD_WHOLE = st.sampled_from((None, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)))
ODD_FLOAT = st.sampled_from((None, float("nan"), float("inf"), -0.0, 0.5, 1e300, 2.0**53, -1.0))
ODD_OTHER = st.sampled_from((None, True, 7, 7.5, "x", [], [1], {}, {"a": 1}, "2026-10-25"))
KEYS: dict[str, tuple[Values, Values, pa.DataType | None]] = {
    "text": (CLEAN_TEXT, ODD_TEXT, pa.string()),
    "digits": (st.sampled_from(("0", "1", "2")), ODD_TEXT, pa.large_string()),
    "dictionary": (CLEAN_TEXT, ODD_TEXT, pa.dictionary(pa.int32(), pa.string())),
    "whole": (CLEAN_WHOLE, ODD_WHOLE, pa.int64()),
    "small": (CLEAN_WHOLE, st.none(), pa.uint8()),
    "double": (CLEAN_WHOLE.map(float), ODD_FLOAT, pa.float64()),
    "float": (CLEAN_WHOLE.map(float), ODD_FLOAT, pa.float32()),
    "decimal": (CLEAN_WHOLE.map(Decimal), st.none(), pa.decimal128(20, 2)),
    "null": (st.none(), st.none(), pa.null()),
    "other": (CLEAN_WHOLE, ODD_OTHER, None),
}
"""Style of a column -> its clean values, its odd values, its type in Parquet (None: inferred)."""

OF_TYPE = {
    "string": ("text", "digits", "dictionary"),
    "int64": ("whole", "digits", "small", "double", "decimal"),
}
FLAGS: Values = st.sampled_from((0, 1))
FLAG_TYPES = (pa.int8(), pa.bool_(), pa.string(), pa.float32(), pa.decimal128(3, 1), pa.int64())
TIME_TYPES = (
    pa.date32(),
    pa.float64(),
    pa.time64("us"),
    pa.duration("s"),
    pa.bool_(),
    pa.decimal128(20, 0),
)
QUIRKS = ("packed", "bom", "crlf", "blank lines", "no last newline")
DAMAGES = ("cut", "bytes", "packed and cut", "utf-16", "named .gz", "empty")
"""How a file is written; with the second ones, rows cannot be counted."""
ODD_FLAGS: Values = st.sampled_from((2, -1, None, "yes", "1", "0 ", True, 0.5, float("nan"), ""))
ODD_TIMES: Values = st.sampled_from(
    ("", None, "now", "2026-02-30T00:00:00Z", "2026-10-25 02:30:00", "2026-10-25T24:00:00Z",
     "2026-10-25", "9999-12-31T23:59:59Z", "0001-01-01", "+99999-01-01", "25.10.2026", "1e9", -1,
     2**63 - 1, 10**18, 0)
)  # fmt: skip
NUMBERS: Values = st.sampled_from(
    (1, 2.5, 0, "3", None, -1, float("nan"), float("inf"), 1e308, "x", "")
)


@dataclass
class Log:
    """One file of rows, and the style of its columns in Parquet."""

    rows: list[dict[str, Any]]
    types: dict[str, pa.DataType | None] = field(default_factory=dict)
    quirk: str = ""


@dataclass
class OddLogs:
    """The logs of a date, and how they are read."""

    format: str
    zone: str
    cutoff: Any
    unit: str
    with_schema: bool
    user: Any
    item: Any
    keyed: bool
    weighed: bool
    impressions: list[Log]
    behaviours: list[Log]
    clicks: list[Log] | None


def column(draw: Callable[..., Any], clean: Values, odd: Values) -> Values:
    """Values of one column: mostly clean ones, often no odd ones at all."""
    if draw(st.integers(0, 2)):
        return clean
    return st.integers(0, 4).flatmap(lambda n: odd if n == 0 else clean)


def style(draw: Callable[..., Any], kind: str) -> str:
    anything = draw(st.integers(0, 24)) == 0
    return str(draw(st.sampled_from(list(KEYS) if anything else OF_TYPE[kind])))


@st.composite
def logs(draw: Any, odd: dict[str, Any], behaviour: bool = False) -> Log:
    styles = {"user": style(draw, odd["user"]), "item": style(draw, odd["item"])}
    styles |= {"category": style(draw, "string")}
    columns = {name: column(draw, *KEYS[kind][:2]) for name, kind in styles.items()}
    types = {name: KEYS[kind][2] for name, kind in styles.items()}
    moments, types["at"] = times(draw, odd, behaviour)
    columns["at"] = column(draw, moments, ODD_TIMES)
    if not behaviour:
        columns["clicked"] = column(draw, FLAGS, ODD_FLAGS)
        types["clicked"] = draw(st.sampled_from((*FLAG_TYPES, None)))
        columns["id"] = column(draw, st.integers(0, 10**9).map(str), ODD_TEXT)
        columns["w"] = column(draw, st.sampled_from((1.0, 2.5)), NUMBERS)
        columns["price"] = column(draw, st.sampled_from((1.0, 2.5)), NUMBERS)
    if draw(st.integers(0, 9)) == 0:
        columns[draw(st.sampled_from(("more", "time", "label", "reason", "USER", "a.b", "_x")))] = (
            NUMBERS
        )
    if draw(st.integers(0, 59)) == 0:
        del columns[draw(st.sampled_from(sorted(columns)))]
    names = draw(st.permutations(sorted(columns)))
    least = 2 if draw(st.integers(0, 4)) else 0
    each = st.fixed_dictionaries({name: columns[name] for name in names})
    rows = draw(st.lists(each, min_size=least, max_size=6))
    rows = rows * draw(st.sampled_from((1, 1, 1, 2, 7)))  # repeats
    quirk = ("", *QUIRKS, *DAMAGES)[draw(st.sampled_from((0, 0, 0, 1, 2, 3, 4, 5)))]
    quirk = draw(st.sampled_from(DAMAGES)) if draw(st.integers(0, 49)) == 0 else quirk
    return Log(rows, {name: types.get(name) for name in names}, quirk)


def times(draw: Any, odd: dict[str, Any], behaviour: bool) -> tuple[Values, pa.DataType | None]:
    """Times of a column and their type."""
    start = start_of(DAY, odd["zone"])
    end = start_of(DAY + timedelta(days=1), odd["zone"])
    moments = [start, start + 1, start + 2 * HOUR, start + 2 * HOUR, start + 3 * HOUR, end - 1]
    moments += [start - 1, start - HOUR, start - 24 * HOUR] if behaviour else []
    moments += [end, start - 1] if draw(st.integers(0, 4)) == 0 else []
    at: Values = st.sampled_from(moments)
    if odd["format"] == "parquet" and draw(st.booleans()):
        zone, unit = (
            draw(st.sampled_from(("UTC", "Asia/Tokyo"))),
            draw(st.sampled_from(("s", "ms", "us", "ns"))),
        )
        return at.map(moment), pa.timestamp(unit, zone)
    if draw(st.integers(0, 39)) == 0:
        return st.integers(0, 10**6), draw(st.sampled_from(TIME_TYPES))
    if odd["unit"]:
        factor = UNITS[odd["unit"]]
        return at.map(lambda t: t // factor), pa.int64()
    return at.map(lambda t: moment(t).isoformat()), pa.string()


def moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


@st.composite
def odd_logs(draw: Any) -> OddLogs:
    of = {
        "format": draw(st.sampled_from(("json", "csv", "parquet"))),
        "zone": draw(st.sampled_from(ZONES)),
        "unit": draw(st.sampled_from(("", "s", "ms", "us"))),
        "user": draw(st.sampled_from(("string", "int64"))),
        "item": draw(st.sampled_from(("string", "int64"))),
    }
    clicks = (
        st.lists(logs(of), min_size=1, max_size=2) if draw(st.integers(0, 3)) == 0 else st.none()
    )
    return OddLogs(
        **of, cutoff=draw(st.sampled_from(("day", "impression"))), with_schema=draw(st.booleans()),
        keyed=draw(st.booleans()), weighed=draw(st.booleans()),
        impressions=draw(st.lists(logs(of), min_size=1, max_size=6)),
        behaviours=draw(st.lists(logs(of, behaviour=True), max_size=2)), clicks=draw(clicks),
    )  # fmt: skip
