"""Random small nights: a configuration of odd_settings, and logs of two dates.

Each column of each table of a date is filled in a manner of its own: clean, with odd values, with
one value throughout, or not at all. A night follows from its seed alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.odd_settings import (
    KINDS,
    Draw,
    Sections,
    odd_columns,
    odd_features,
    odd_kinds,
    odd_sections,
)

DAYS = (date(2026, 11, 20), date(2026, 11, 21))
"""The first is trained on, the second evaluated on; candidates are of the day after."""
NEXT = DAYS[-1] + timedelta(days=1)

OTHERS = {
    "at": pa.timestamp("us", "UTC"), "clicked": pa.int64(), "w": pa.float64(), "r": pa.float64(),
    "id": pa.int64(),
}  # fmt: skip
OTHER_VALUES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "w": ((1.0, 2.0), (0.0, 0.0)), "r": ((0.1, 0.2), (0.0, 1.0)),
}  # fmt: skip


@dataclass
class OddNight:
    """A configuration whose paths begin with ``{root}``, and its tables by path."""

    settings: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def write(self, root: Path) -> dict[str, Any]:
        """Write the tables below ``root``; return the configuration with its paths there."""
        for name, table in self.tables.items():
            path = root / name / "part-0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(table, path)
        return rooted(self.settings, str(root))


def rooted(value: Any, root: str) -> Any:
    if isinstance(value, dict):
        return {name: rooted(each, root) for name, each in value.items()}
    if isinstance(value, list):
        return [rooted(each, root) for each in value]
    return value.replace("{root}", root) if isinstance(value, str) else value


def odd_night(seed: int) -> OddNight:
    """Return the night of a seed."""
    draw = Draw(seed)
    columns = odd_columns(draw)
    kinds = odd_kinds(draw, columns)
    night = OddNight({"features": odd_features(draw, columns, kinds), "history": {
        "cutoff": "impression" if draw.one_in(6) else "day", "since": str(DAYS[0]),
        "length": draw.choice((1, 3)), "kinds": kinds,
    }})  # fmt: skip
    night.settings |= odd_sections(draw, columns, kinds)
    write_logs(draw, night, columns)
    return night


class Tables:
    """Fills the tables of a night.

    Attributes:
        keys: how many users and items there are.
        in_table: side table -> whether there is one.
        of_table: feature -> the side table that holds it; a log holds the others.
    """

    def __init__(self, draw: Draw, night: OddNight, columns: Sections) -> None:
        self.draw, self.night, self.columns = draw, night, columns
        self.keys = {name: draw.choice((1, 2, 5)) for name in ("user", "item")}
        sides = {"user": "users", "item": "items"}
        needed = {c["side"] for c in columns.values() if c["kind"] == "vector"}
        needed |= {"item"} if "negatives" in night.settings["build"] else set()
        self.in_table = {name: side in needed or draw.one_in(2) for side, name in sides.items()}
        self.of_table = {
            name: table
            for name, c in columns.items()
            if (table := sides.get(c["side"])) and self.in_table[table] and name not in sides
            and (c["kind"] == "vector" or not draw.one_in(6))
        }  # fmt: skip

    def key(self, name: str, number: int) -> Any:
        if self.columns[name]["kind"] == "whole":
            return number if number else 2**63 - 1
        return f"{name}{number} 😀"

    def table(
        self, path: str, keys: tuple[str, ...], rows: list[dict[str, Any]], names: list[str]
    ) -> None:
        """Keep a table of ``rows``, which hold ``keys``, with the further columns ``names``."""
        draw, types = self.draw, dict(OTHERS)
        types |= {name: KINDS[c["kind"]].type for name, c in self.columns.items()}
        held = dict.fromkeys(keys)
        for name in names:
            if (values := manner(draw, *self.values(name))) is not None:
                held[name] = None
                for row in rows:
                    row[name] = values()
        arrays = {name: pa.array([row[name] for row in rows], types[name]) for name in held}
        self.night.tables[path] = pa.table(arrays)

    def values(self, name: str) -> tuple[tuple[Any, ...], ...]:
        return OTHER_VALUES.get(name) or KINDS[self.columns[name]["kind"]].values


def manner(draw: Draw, clean: tuple[Any, ...], odd: tuple[Any, ...]) -> Callable[[], Any] | None:
    """Return what fills a column of a table; None leaves it out."""
    if draw.one_in(600):
        return None
    if draw.one_in(4):
        one = draw.choice((None, draw.choice(odd), draw.choice(clean)))
        return lambda: one
    mixed = (*clean, *odd) if draw.one_in(2) else clean
    return lambda: draw.choice(mixed)


def write_logs(draw: Draw, night: OddNight, columns: Sections) -> None:
    """Write all sources of a night, and the section that names them."""
    tables = Tables(draw, night, columns)
    sources: dict[str, Any] = {
        "impressions": {"path": "{root}/impressions/{date}"}, "behaviours": [],
    }  # fmt: skip
    own = [name for name in columns if name not in ("user", "item", *tables.of_table)]
    for day in DAYS:
        write_impressions(draw, tables, day, [*own, "w", "r"])
    for kind in night.settings["history"]["kinds"]:
        source: dict[str, Any] = {"kind": kind, "path": f"{{root}}/{kind}/{{date}}"}
        if draw.one_in(3):
            delay = draw.choice(("0s", "1h"))
            source = {"kind": kind, "origin": "impressions", "label_delay": delay}
        else:
            write_behaviours(draw, tables, kind, [n for n in own if columns[n]["side"] == "item"])
        sources["behaviours"].append(source)
    for name, key in (("users", "user"), ("items", "item")):
        if tables.in_table[name]:
            sources[name] = {"path": f"{{root}}/{name}/{{date}}"}
            held = [n for n, table in tables.of_table.items() if table == name]
            write_side_table(draw, tables, name, key, held)
    if draw.one_in(2):
        sources["candidates"] = {"path": "{root}/candidates/{date}"}
        write_candidates(draw, tables, own)
    night.settings["sources"] = sources


def times(draw: Draw, day: date) -> datetime:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start + timedelta(seconds=draw.choice((0, 1, 3600, 3601, 50_000, 86_399)))


def pair(draw: Draw, tables: Tables, unknown: int = 0) -> dict[str, Any]:
    """Return the keys of a user and an item, which are new with ``unknown`` added."""
    return {
        name: tables.key(name, draw.randrange(count) + unknown)
        for name, count in tables.keys.items()
    }


def write_impressions(draw: Draw, tables: Tables, day: date, names: list[str]) -> None:
    positives = "negatives" in tables.night.settings["build"]
    flags = draw.choice(((0, 1), (0, 1), (0, 1), (0, 0, 0, 1), (0,), (1,)))
    flags = (1,) if positives else flags
    rows = [
        {**pair(draw, tables, unknown=10 * draw.one_in(8)), "at": times(draw, day), "id": number,
         "clicked": draw.choice(flags)}
        for number in range(draw.choice((1, 6, 30, 30, 60)))
    ]  # fmt: skip
    tables.table(f"impressions/{day}", ("user", "item", "at", "id", "clicked"), rows, names)


def write_behaviours(draw: Draw, tables: Tables, kind: str, names: list[str]) -> None:
    for day in DAYS:
        count = draw.choice((0, 1, 20, 20))
        rows = [{**pair(draw, tables), "at": times(draw, day)} for _ in range(count)]
        tables.table(f"{kind}/{day}", ("user", "item", "at"), rows, names)


def write_side_table(draw: Draw, tables: Tables, name: str, key: str, held: list[str]) -> None:
    for day in DAYS:
        known = draw.choice((1, *[15] * 8)) if not draw.one_in(12) else 0
        rows = [{key: tables.key(key, number)} for number in range(known)]
        tables.table(f"{name}/{day}", (key,), rows, held)


def write_candidates(draw: Draw, tables: Tables, names: list[str]) -> None:
    unknown = draw.choice((0, 0, 0, 100))
    pairs = [
        {"user": tables.key("user", u + unknown), "item": tables.key("item", i + unknown)}
        for u in range(draw.choice((1, 3))) for i in range(draw.choice((1, 6)))
    ]  # fmt: skip
    tables.table(f"candidates/{NEXT}", ("user", "item"), pairs, names)
