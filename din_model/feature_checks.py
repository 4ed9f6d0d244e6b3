"""Refuses a FeatureSpec that contradicts itself; each message names the key to correct."""

import re
from collections.abc import Mapping

from din_model.declarations import AGE, IMPRESSIONS, Counter, Feature, History
from din_model.errors import InputError
from din_model.names import OF_MODEL, OF_SCORES, is_column, is_plain

WRITTEN = {
    "int64": r"0|-?[1-9][0-9]*",
    "number": r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?|nan|NaN",
}
"""Type -> how a value of it is written; any text is a string."""


def check(
    user: str, item: str, features: tuple[Feature, ...], histories: tuple[History, ...],
    counters: tuple[Counter, ...],
) -> None:  # fmt: skip
    """Check every part of a spec, and the parts against each other.

    Args:
        user: name of the feature with the user's key.
        item: name of the feature with the item's key.
        features: all features.
        histories: all histories.
        counters: all counters.

    Raises:
        InputError: a contradiction.
    """
    _check_names(features, histories, counters)
    by_name = {f.name: f for f in features}
    _check_role("user", user, by_name)
    _check_role("item", item, by_name)
    tables: dict[str, Feature] = {}
    for f in features:
        _check_feature(f)
        _check_shared_table(f, tables.setdefault(f.vocabulary, f))
    if not histories:
        raise InputError("history.kinds: declare a kind of behaviour; the model reads histories")
    for history in histories:
        _check_history(history, by_name)
    mirrored = {h.kind: {user, *h.fields.values()} for h in histories}
    for counter in counters:
        _check_counter(counter, by_name, mirrored)


def _check_names(
    features: tuple[Feature, ...], histories: tuple[History, ...], counters: tuple[Counter, ...]
) -> None:
    """Check every name that becomes a column, a table or a part of the model.

    Two names must differ in more than case, which Spark ignores.
    """
    own = [(f"features.columns.{f.log_name}", f.name, is_column(f.name)) for f in features]
    own += [
        (f"history.kinds.{h.kind}", h.kind, is_plain(h.kind) and h.kind != IMPRESSIONS)
        for h in histories
    ]
    own += [(f"features.counters.{c.name}", c.name, is_plain(c.name)) for c in counters]
    taken: set[str] = set()
    for where, name, allowed in own:
        if not allowed:
            raise InputError(
                f"{where}: this name is reserved or not plain: write letters, digits and single"
                " underscores, and a letter first"
            )
        if name.lower() in taken:
            raise InputError(f"{where}: another column, kind or counter has this name")
        taken.add(name.lower())


def _check_role(role: str, name: str, features: Mapping[str, Feature]) -> None:
    """Check the feature of a role: ``user`` or ``item``."""
    f = features.get(name)
    if f is None or f.side != role or f.is_list:
        raise InputError(
            f"features.columns.{f.log_name if f else name}: declare the {role} column with side:"
            f" {role}, not a list"
        )
    if f.type not in ("string", "int64"):
        raise InputError(
            f"features.columns.{f.log_name}: the {role} column has type {f.type}, but its keys are"
            " string or int64: correct the type, or name another column"
        )
    if f.log_name.lower() in OF_SCORES:
        raise InputError(
            f"features.columns.{f.log_name}: published scores have a column of this name: rename"
            " the user or item column in the query of each source"
        )


def _check_feature(f: Feature) -> None:
    where = f"features.columns.{f.log_name}"
    if not is_plain(f.vocabulary) or f.vocabulary in OF_MODEL:
        raise InputError(f"{where}.vocabulary: {f.vocabulary!r} is reserved or not plain")
    if f.side == "context" and f.serving_default is None:
        raise InputError(f"{where}: scoring does not know a context feature: set serving_default")
    _check_serving_default(f, where)
    if f.type != "number" and (f.boundaries or f.quantiles or f.scale):
        raise InputError(f"{where}: boundaries, quantiles and scale need type: number")
    if f.type == "number" and bool(f.boundaries or f.quantiles) == bool(f.scale):
        raise InputError(f"{where}: a number needs one of boundaries, quantiles and scale")
    if f.is_vector and (f.side == "context" or f.is_list or f.dimension < 2):
        raise InputError(
            f"{where}: a vector is of a user or an item, one a row, and of dimension 2 or more"
        )
    if f.type == "number" and f.is_list:
        raise InputError(f"{where}: a number is one value: remove max_length")
    if f.scale and f.dimension:
        raise InputError(
            f"{where}: a number with a scale has no embedding: remove dimension, or set boundaries"
        )
    if f.quantiles < 0 or f.quantiles == 1:
        raise InputError(f"{where}.quantiles: must be 0 or at least 2")
    if list(f.boundaries) != sorted(set(f.boundaries)):
        raise InputError(f"{where}.boundaries: must increase strictly")


def _check_serving_default(f: Feature, where: str) -> None:
    value = f.serving_default
    if value is None:
        return
    if f.side != "context":
        raise InputError(
            f"{where}.serving_default: only a context feature has one: remove it; candidates or a"
            f" side table must have {f.log_name!r}"
        )
    if f.type in WRITTEN and not re.fullmatch(WRITTEN[f.type], str(value)):
        raise InputError(
            f"{where}.serving_default: {value!r} is no {f.type}: set a value that the log may have"
        )


def _check_shared_table(f: Feature, first: Feature) -> None:
    """``first``: the first feature of the same vocabulary, which may be ``f`` itself."""
    equal = (first.type, first.dimension) == (f.type, f.dimension)
    if not equal or (f is not first and f.type in ("number", "vector")):
        raise InputError(
            f"features.columns.{f.log_name}: shares the vocabulary {f.vocabulary!r} with"
            f" {first.log_name!r}, so both need the same type (string or int64) and dimension"
        )


def _check_history(history: History, features: Mapping[str, Feature]) -> None:
    where = f"history.kinds.{history.kind}"
    if history.length < 1:
        raise InputError(f"{where}: length must be at least 1")
    if not history.fields:
        raise InputError(f"{where}.fields: name at least one field and the feature it mirrors")
    columns: set[str] = {AGE, "time", "length"}
    for name, mirrored in history.fields.items():
        if not is_plain(name) or name.lower() in columns:
            raise InputError(f"{where}.fields.{name}: this name is taken, reserved or not plain")
        columns.add(name.lower())
        f = features.get(mirrored)
        if f is None or f.side != "item" or f.is_list:
            raise InputError(
                f"{where}.fields.{name}: {mirrored!r} is not a single-valued item feature"
            )
        if f.dimension == 0:
            raise InputError(f"{where}.fields.{name}: {mirrored!r} has dimension 0")
    if all(features[mirrored].is_vector for mirrored in history.fields.values()):
        raise InputError(
            f"{where}.fields: only vectors, which name no behaviour: add the item, whose vectors"
            " follow it, or another feature with keys"
        )


def _check_counter(
    counter: Counter, features: Mapping[str, Feature], mirrored: Mapping[str, set[str]]
) -> None:
    """``mirrored``: kind of history -> the user and the features that its behaviours hold."""
    where = f"features.counters.{counter.name}"
    if counter.events not in (IMPRESSIONS, *mirrored):
        raise InputError(
            f"{where}.events: {counter.events!r} is neither impressions nor a kind of history"
        )
    if not 1 <= len(set(counter.keys)) == len(counter.keys) <= 2:
        raise InputError(f"{where}.keys: name one feature, or two different ones")
    for key in counter.keys:
        f = features.get(key)
        if f is None or f.is_list or f.is_value or f.is_vector:
            raise InputError(f"{where}.keys: {key!r} is not a single-valued feature with ids")
    if not counter.windows or min(counter.windows) < 0 or counter.lag < 0:
        raise InputError(f"{where}: needs at least one window, and nothing may be negative")
    missing = set(counter.keys) - mirrored.get(counter.events, set(counter.keys))
    if missing:
        raise InputError(
            f"{where}.keys: a {counter.events} behaviour has no {min(missing)!r}: name user, or"
            f" what history.kinds.{counter.events}.fields mirrors"
        )
