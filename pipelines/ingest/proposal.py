"""A configuration proposed from a sample of a log: which column means what, and why.

Every guess carries its reason, which the proposed file holds as a comment.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
from jinja2 import Environment, PackageLoader

from din_model.errors import InputError
from pipelines.ingest.log_sample import LogSample
from pipelines.ingest.outcomes import group_sizes, is_key, named_later, telling
from pipelines.ingest.times import Time, parsed, time_of, words_of

USER = {"user", "uid", "userid", "member", "customer", "visitor", "reader", "account", "viewer",
        "subscriber", "client", "cookie", "session", "visitorid", "reviewer", "uuid"}  # fmt: skip
ITEM = {"item", "article", "articles", "news", "product", "movie", "video", "ad", "adgroup", "sku",
        "content", "asin", "listing", "song", "track", "book", "game", "post", "story", "document",
        "goods", "itemid", "iid", "pid", "creative", "recipe", "hotel", "job", "offer", "campaign",
        "url"}  # fmt: skip
LABEL = {"click", "clicked", "label", "target", "clk", "converted", "conversion", "liked",
         "purchased", "bought", "isclick"}  # fmt: skip
KEY = {"impression", "request", "event", "row", "log", "id"}

MANY = 1000
"""Distinct whole numbers above which a column is a quantity, unless it is named as an id."""


@dataclass(frozen=True)
class Column:
    """A proposed feature, or a column that is left out (without ``settings``), and why."""

    name: str
    settings: dict[str, Any] | None
    why: str


@dataclass(frozen=True)
class Proposal:
    """What the columns of a log mean.

    Attributes:
        log: the log.
        user: column of the user.
        item: column of the item.
        time: column of the time.
        label: column of the click flag; None: the log has clicks only.
        key: columns that identify a row.
        columns: features, and columns that are left out.
        tables: attributes of items or users, by section of ``sources``.
    """

    log: LogSample
    user: str
    item: str
    time: Time
    label: str | None
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    tables: Mapping[str, LogSample] = field(default_factory=dict)

    @property
    def since(self) -> str:
        """The first date of the log, as far as the sample tells."""
        return self.log.dates[0] if self.log.dates else str(self.time.first)

    @property
    def last(self) -> str:
        """The last date of the log, as far as the sample tells."""
        return self.log.dates[-1] if self.log.dates else str(self.time.last)

    @property
    def selected(self) -> str:
        """The columns of the log's query: the time parsed, and the label of a log of clicks."""
        time, names = self.time, self.log.rows.column_names
        columns = "*"
        if time.pattern:
            text, type_ = f"`{time.column}`", self.log.rows.schema.field(time.column).type
            if pa.types.is_integer(type_) or pa.types.is_floating(type_):
                text = f"cast(cast({text} as bigint) as string)"
            parsed = f"to_timestamp({text}, '{time.pattern}') as `{time.column}`"
            columns = ", ".join(parsed if n == time.column else f"`{n}`" for n in names)
        return columns if self.label else f"{columns}, 1 as clicked"

    @property
    def mirrored(self) -> list[str]:
        """Item and at most two attributes of it, which a history holds."""
        attributes = [
            c.name
            for c in self.columns
            if c.settings
            and c.settings["side"] == "item"
            and c.settings.get("type") != "number"
            and "max_length" not in c.settings
        ]
        return [self.item, *[name for name in attributes if name != self.item][:2]]


def propose(log: LogSample, tables: list[LogSample], given: Mapping[str, str | None]) -> Proposal:
    """Guess what the columns of a log mean.

    Args:
        log: impressions or clicks.
        tables: attributes of items or of users.
        given: columns that are known: ``user``, ``item``, ``time``, ``label``.

    Raises:
        InputError: no column can be the user, the item or the time; a table has no key.
    """
    frame = log.rows.to_pandas()
    for role, name in given.items():
        if name and name not in frame.columns:
            raise InputError(f"--{role} {name}: the log has {', '.join(frame.columns)}")
    user = given.get("user") or _named(frame, "user", USER, set())
    item = given.get("item") or _named(frame, "item", ITEM, {user})
    time = time_of(frame, given.get("time"), {user, item})
    label = given.get("label") or _label(frame, {user, item, time.column})
    key = _key(frame, item, {user, item, time.column, label})
    taken = {user, item, time.column, label, *key}
    sides = _sides(tables, user, item)
    columns = [_id_column(frame, user, "user"), _id_column(frame, item, "item")]
    sizes = group_sizes(frame)
    for name in (n for n in frame.columns if n not in taken):
        column = _column(frame[name], frame, user, item)
        if name in sizes:
            why = f"counts the rows of its {sizes[name]}: known only after the last of them"
            column = Column(name, None, why)
        elif column.settings and label and frame[label].notna().all():
            owners = frame[[user, item]]
            if how := telling(frame[name], frame[label].astype(float), owners):
                column = Column(name, None, f"{how}: known only after the click")
        columns.append(column)
    for section, table in sides.items():
        own = table.rows.to_pandas()
        side = section.removesuffix("s")
        present = {c.name for c in columns} | {user, item}
        columns += [_column(own[n], own, user, item, side) for n in own.columns if n not in present]
    if label is None and "items" not in sides:
        columns = [_without_items(c, item) for c in columns]
    return Proposal(log, user, item, time, label, key, tuple(columns), sides)


def render(proposal: Proposal, name: str) -> str:
    """Return the proposal as a configuration with comments; ``name`` is that of store and model."""
    templates = Environment(  # noqa: S701 (YAML, whose values are quoted by the filter)
        loader=PackageLoader("pipelines.ingest", ""), trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["yaml"] = _yaml
    return templates.get_template("proposal.yaml.j2").render(p=proposal, name=name)


def _yaml(value: Any) -> str:
    """Return a value in YAML's flow style; texts are quoted unless they are plain words."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(k)}: {_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z][\w./-]*", text):
        return json.dumps(text, ensure_ascii=False)  # a quoted text of YAML, too
    return text


def _named(frame: pd.DataFrame, role: str, names: set[str], taken: set[str]) -> str:
    """Return the column that names say is user or item: best an id, first with the best word."""
    found = [
        n for n in frame.columns if n not in taken and words_of(n) & names and is_key(frame[n])
    ]
    if not found:
        lists = [n for n in frame.columns if words_of(n) & names and _is_list(frame[n])]
        hint = f"; {lists[0]} holds lists: conf/datasets/ebnerd.yaml has a query" if lists else ""
        raise InputError(
            f"no column is named like the {role}: say --{role} COLUMN, one of"
            f" {', '.join(frame.columns)}{hint}"
        )

    found = [n for n in found if "session" not in words_of(n)] or found
    values = {name: frame[name].nunique() for name in found}

    def rank(name: str) -> tuple[bool, bool, int, int]:
        words = words_of(name)
        is_id, kinds = "id" in words or name.lower() in names, values[name]
        # A position or a category may be named like an item, but has few values.
        return kinds >= 0.1 * max(values.values()), is_id, -len(words), kinds

    return max(found, key=rank)


def _is_list(values: "pd.Series[Any]") -> bool:
    known = values.dropna()
    return len(known) > 0 and pd.api.types.is_list_like(known.iloc[0])


def _label(frame: pd.DataFrame, taken: set[str | None]) -> str | None:
    binary = [n for n in frame.columns if n not in taken and _is_flag(frame[n])]
    named = [n for n in binary if words_of(n) & LABEL]
    return named[0] if named else None


def _is_flag(values: "pd.Series[Any]") -> bool:
    try:
        return set(values.dropna().unique()) == {0, 1}
    except TypeError:  # lists
        return False


def _key(frame: pd.DataFrame, item: str, taken: set[str | None]) -> tuple[str, ...]:
    """Return the columns that are named like an id and identify a row, if there are such."""
    for name in (n for n in frame.columns if n not in taken and words_of(n) & KEY):
        if is_key(frame[name]):
            for columns in ([name], [name, item]):
                if not frame.duplicated(columns).any():
                    return tuple(columns)
    return ()


def _sides(tables: list[LogSample], user: str, item: str) -> dict[str, LogSample]:
    """Return the tables by section of ``sources``."""
    sides = {}
    for table in tables:
        names = table.rows.column_names
        if item not in names and user not in names:
            raise InputError(f"{table.path}: has neither {item} nor {user}, but {', '.join(names)}")
        sides["items" if item in names else "users"] = table
    return sides


def _id_column(frame: pd.DataFrame, name: str, side: str) -> Column:
    whole = pd.api.types.is_integer_dtype(frame[name])
    return Column(name, {"side": side} | ({"type": "int64"} if whole else {}), f"the {side}")


def _column(
    values: "pd.Series[Any]", frame: pd.DataFrame, user: str, item: str, side: str | None = None
) -> Column:
    """Return the feature that a column can be, or the reason to leave the column out."""
    name, known = str(values.name), values.dropna()
    if not len(known):
        return Column(name, None, "no values in the sample")
    first = known.iloc[0]
    if isinstance(first, dict):
        return Column(name, None, "a structure: select its parts in a query")
    texts = known.map(str)
    distinct = texts.nunique()
    if distinct == 1:
        return Column(name, None, "one value in the sample")
    if named_later(name):
        return Column(name, None, "may be known only after the click, which would leak it")
    if parsed(known) is not None:
        return Column(name, None, "another time")
    side = side or _side(texts, frame, user, item)
    settings: dict[str, Any] = {"side": side}
    if _is_list(known):
        lengths = known.map(len)
        settings["max_length"] = max(1, int(lengths.quantile(0.95)))
        return Column(name, settings, "a list")
    named_id = bool(words_of(name) & {"id", "code"})
    is_number = pd.api.types.is_numeric_dtype(known) and not named_id
    if is_number and (distinct > MANY or (known % 1 != 0).any()):
        quantity = settings | {"type": "number", "quantiles": 10}
        return _in_context(Column(name, quantity, "a quantity"), texts)
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
        settings["type"] = "int64"
    if distinct > 0.5 * len(known) and side == "context":
        return Column(name, None, "almost every row has a value of its own")
    if distinct > 0.5 * len(known) and texts.str.len().mean() > 30:
        return Column(name, None, "free text")
    return _in_context(Column(name, settings, f"{distinct:,} values"), texts)


def _in_context(column: Column, texts: "pd.Series[Any]") -> Column:
    """Give a feature of the context the most frequent value as default of candidates."""
    assert column.settings is not None
    if column.settings["side"] != "context":
        return column
    default = str(texts.mode().iloc[0])
    if column.settings.get("type") == "int64" and "." in default:  # pandas reads nulls so
        default = f"{float(default):.0f}"
    settings = column.settings | {"serving_default": default}
    return Column(column.name, settings, f"{column.why}; candidates get the most frequent one")


def _side(texts: "pd.Series[Any]", frame: pd.DataFrame, user: str, item: str) -> str:
    """Return whose attribute a column is: of whom it has one value each in the sample."""
    for side, owner in (("item", item), ("user", user)):
        values = texts.groupby(frame.loc[texts.index, owner].map(str))
        often = values.size() > 1
        if often.any() and (values.nunique()[often] == 1).mean() > 0.98:
            return side
    return "context"


def _without_items(column: Column, item: str) -> Column:
    if column.settings and column.settings["side"] == "item" and column.name != item:
        return Column(column.name, None, "of the item: sampled negatives need it in sources.items")
    return column
