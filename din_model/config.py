"""Configuration: YAML files and ``key.sub=value`` arguments into frozen dataclasses.

Unknown keys are errors. The dataclass of each section stands beside the code it configures; this
module knows no section by name.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from din_model.errors import InputError

T = TypeVar("T")

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
MICROSECONDS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
MICROSECONDS["d"] = 24 * MICROSECONDS["h"]


@dataclass(frozen=True)
class Section:
    """Base of every configuration dataclass. A key that it does not declare is an error."""

    # Accept a model version written as the number 7.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "coerce_numbers_to_str": True,
    }


def load(cls: type[T], paths: Sequence[str], overrides: Sequence[str] = ()) -> T:
    """Read ``paths`` in order, later ones winning, then apply ``key.sub=value`` overrides.

    Raises:
        InputError: a missing file, a file that is not a mapping, an unknown key (with the nearest
            known one), a value of a wrong type, an override without ``=``.
    """
    layers = [_read(path) for path in paths] + [_override(override) for override in overrides]
    empty: dict[str, Any] = {}
    return build(cls, reduce(_merge, layers, empty), " ".join(paths) or "the command line")


def build(cls: type[T], data: Any, where: str) -> T:
    """Turn plain ``data`` into the dataclass ``cls``.

    Args:
        cls: the dataclass.
        data: a mapping of plain values.
        where: the origin of the data, for error messages.
    """
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = [part for part in first["loc"] if not str(part).startswith("function-")]
        key = ".".join(map(str, path))
        if first["type"] == "unexpected_keyword_argument":
            known = _keys_at(cls, path[:-1])
            near = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise InputError(f"{where}: unknown key {key!r}; {hint}") from None
        if first["type"] in ("missing", "missing_argument"):
            raise InputError(f"{where}: {key!r} is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {key!r}: {message}, got {first['input']!r}") from None


def to_dict(section: Any) -> dict[str, Any]:
    """Return a section as plain values, ready for YAML or JSON."""
    return TypeAdapter(type(section)).dump_python(section, mode="json")


def expand(text: str) -> str:
    """Replace ``${NAME}`` by environment variables.

    Call it as late as possible: the values may be secret.

    Raises:
        InputError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"{text}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


def microseconds(duration: str) -> int:
    """Parse ``30s``, ``15m``, ``2h``, ``1d`` (also ``ms``, ``us``) into microseconds."""
    match = DURATION.fullmatch(duration.strip())
    if match is None:
        raise InputError(f"{duration!r} is not a duration: write 30s, 15m, 2h or 1d")
    return round(float(match[1]) * MICROSECONDS[match[2]])


def duration(text: str) -> timedelta:
    """Parse the same durations into a timedelta."""
    return timedelta(microseconds=microseconds(text))


def _read(path: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be a mapping of sections")
    return data


def _override(word: str) -> dict[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise InputError(f"{word!r}: write an override as key.sub=value")
    data: Any = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        data = {part: data}
    return data


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _keys_at(cls: Any, path: Sequence[Any]) -> list[str]:
    """Return the keys that the dataclass at ``path`` below ``cls`` accepts."""
    for part in path:
        if is_dataclass(cls):
            cls = get_type_hints(cls)[part]
        options = [cls, *get_args(cls)]
        cls = next((o for o in reversed(options) if is_dataclass(o)), cls)
    return [field.name for field in fields(cls)]
