"""Configuration: YAML files and ``key.sub=value`` arguments into frozen dataclasses.

Unknown keys are errors. The dataclass of each section stands beside the code it configures; this
module knows no section by name.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from din_model import masking, yaml_text
from din_model.errors import InputError

T = TypeVar("T")

NO_ADDRESS = ("query", "schema")
"""Keys whose texts are SQL, which may compare a column called ``token``."""

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
MICROSECONDS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
MICROSECONDS["d"] = 24 * MICROSECONDS["h"]


@dataclass(frozen=True)
class Section:
    """Base of every configuration dataclass. A key that it does not declare is an error."""

    # Accept a model version written as the number 7. An empty text is a variable that is not set.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
        "coerce_numbers_to_str": True,
        "str_min_length": 1,
    }


def load(
    cls: type[T],
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    options: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Read ``paths`` in order, later ones winning, then apply the overrides and the options.

    Args:
        cls: the dataclass.
        paths: YAML files.
        overrides: ``key.sub=value``; the value is YAML if it begins with a bracket or a quotation
            mark, else it is text.
        options: key -> text.

    Raises:
        InputError: a missing file, a file that is not a mapping, an unknown key (with the nearest
            known one), a value of a wrong type, an override without ``=``, a secret.
    """
    layers = [_read(path) for path in paths] + [_override(override) for override in overrides]
    layers += [_nested(key, text) for key, text in options.items()]
    empty: dict[str, Any] = {}
    data, where = reduce(_merge, layers, empty), " ".join(paths) or "the command line"
    _refuse_secrets(data, where, "")
    return build(cls, data, where)


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
        errors = error.errors()  # a typo explains that another key is missing
        first = next((e for e in errors if e["type"] == "unexpected_keyword_argument"), errors[0])
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
    """Replace ``${NAME}`` by environment variables, whose values may be secret.

    Call it as late as possible. From then on the values are masked in every message.

    Raises:
        InputError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"{text}: the environment variable {match[1]} is not set")
        masking.remember(match[1], os.environ[match[1]])
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
        data = yaml_text.parse(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a file that can be read as UTF-8 ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be a mapping of sections")
    return data


def _override(word: str) -> dict[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise InputError(f"{word!r}: write an override as key.sub=value")
    value = value.strip()
    if value[:1] not in tuple("[{\"'"):
        return _nested(key, None if value in ("", "~", "null") else value)
    try:
        return _nested(key, yaml_text.parse(value))
    except yaml.YAMLError as error:
        raise InputError(f"{word!r}: not valid YAML: {' '.join(str(error).split())}") from None


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _refuse_secrets(data: Any, where: str, key: str) -> None:
    """Refuse passwords that are written out: the configuration is logged with every run."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in items:
        path = f"{key}.{name}" if key else str(name)
        if isinstance(value, (dict, list)):
            _refuse_secrets(value, where, path)
        elif isinstance(value, str) and name not in NO_ADDRESS:
            is_secret = ".options." in path and masking.SECRET_KEY.search(str(name))
            if masking.holds_secret(value) or (is_secret and masking.VARIABLE.sub("", value)):
                raise InputError(
                    f"{where}: {path!r} holds a password: write ${{NAME}} in its place, and set"
                    " NAME in the environment"
                )


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _keys_at(cls: Any, path: Sequence[Any]) -> list[str]:
    """Return the keys that the dataclass at ``path`` below ``cls`` accepts."""
    for part in path:
        cls = _without_none(cls)
        if is_dataclass(cls):
            cls = get_type_hints(cls)[part]
        else:  # dict[str, X] by key, or tuple[X, ...] by position
            cls = get_args(cls)[isinstance(part, str)]
    return [field.name for field in fields(_without_none(cls))]


def _without_none(cls: Any) -> Any:
    if get_origin(cls) not in (Union, UnionType):
        return cls
    return next(each for each in get_args(cls) if each is not type(None))
