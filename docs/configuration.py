"""Writes docs/configuration.md: every section and key, as the dataclasses' docstrings tell them.

    python -m docs.configuration        # or: make docs

A key that its docstring does not explain is an error, as is an explanation of a key that is gone.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from din_model.config import Section, to_dict
from jobs.cli import Settings

PAGE = Path(__file__).with_suffix(".md")
ENTRY = re.compile(r"    (\w+): (.*(?:\n        .*)*)")
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", date: "date"}

HEAD = """\
# Configuration

Written by `make docs` from the dataclasses that read it; change their docstrings, not this page.

One YAML file, or several (`--config` again; later files win, key by key), and `section.key=value`
words on the command line, which win over all. A key that is not below is an error that names the
nearest one that is. A duration is written `30s`, `15m`, `2h` or `1d`, a date `2026-11-22`. On the
command line a list is `'compare.dimensions=[4, 8]'`, and `null` takes a value away.
"""


def page() -> str:
    """The page, as it must be committed."""
    parts = [HEAD]
    for section, paths in sections().items():
        explanation = inspect.cleandoc(section.__doc__ or "").split("\nAttributes:")[0].strip()
        if paths:
            parts.append(f"## {', '.join(f'`{path}`' for path in paths)}\n")
            parts.append(_markdown(explanation) + "\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|")
        parts.append("\n".join(_rows(section)) + "\n")
    return "\n".join(parts)


def sections() -> dict[type[Section], list[str]]:
    """Every section class, in order -> the keys that hold one; the whole configuration first."""
    found: dict[type[Section], list[str]] = {Settings: []}

    def walk(section: type[Section], prefix: str) -> None:
        for name, kind in _types(section).items():
            for inner, suffix in _inner(kind):
                found.setdefault(inner, []).append(f"{prefix}{name}{suffix}")
                walk(inner, f"{prefix}{name}{suffix}.")

    walk(Settings, "")
    return found


def explained(section: type[Section]) -> dict[str, str]:
    """Key -> its meaning, from the ``Attributes:`` of a section and of those it extends.

    Raises:
        LookupError: a key without a meaning, or a meaning without a key.
    """
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        explanation = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")[2]
        found |= {name: " ".join(text.split()) for name, text in ENTRY.findall(explanation)}
    keys = [field.name for field in dataclasses.fields(section)]
    if wrong := set(keys) ^ set(found):
        raise LookupError(f"{section.__name__}: its Attributes and its keys differ in {wrong}")
    return {key: found[key] for key in keys}


def _inner(kind: Any) -> Iterator[tuple[type[Section], str]]:
    """The section that a type holds, if any, and how a key of it is written."""
    if inspect.isclass(kind) and issubclass(kind, Section):
        yield kind, ""
    suffix = {tuple: "[]", dict: ".NAME"}.get(typing.get_origin(kind), "")
    for part in typing.get_args(kind):
        for inner, more in _inner(part):
            yield inner, suffix + more


def _types(section: type[Section]) -> dict[str, Any]:
    hints = typing.get_type_hints(section, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def _rows(section: type[Section]) -> Iterator[str]:
    types, explanation = _types(section), explained(section)
    for field in dataclasses.fields(section):
        cells = (
            f"`{field.name}`",
            _type(types[field.name]),
            _default(field),
            explanation[field.name],
        )
        yield f"| {' | '.join(_markdown(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _type(kind: Any) -> str:
    """A type in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _range(kind)
    if kind is types.NoneType:
        return "null"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type, args))
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"[{_type(args[0])}, …]"
    if origin is tuple:
        return f"[{', '.join(map(_type, args))}]"
    if origin is dict:
        return f"name -> {_type(args[1])}"
    return NAMES.get(kind, "section")


def _range(kind: Any) -> str:
    """What a type of din_model.ranges says that it allows."""
    told = [each.description for each in kind.__metadata__ if isinstance(each, FieldInfo)]
    return told[0] or _type(typing.get_args(kind)[0])


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, Section):
        return "its own" if value == type(value)() else f"`{to_dict(value)}`"
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{yaml.safe_dump(plain, default_flow_style=True).splitlines()[0]}`"


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
