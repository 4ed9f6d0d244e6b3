"""docs/runbook.md explains every message that a person can put right, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runbook.md"
ENTRY = re.compile(r"^- `([^`]+)`\\\n(.+?)(?=^- |^#|^\S|\Z)", re.MULTILINE | re.DOTALL)


def template(message: ast.expr) -> str:
    """The constant parts of a message, with … for the others."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(template, parts))
        case ast.BinOp(left=left, right=right):
            return template(left) + template(right)
    return "…"


def raised(tree: ast.AST, error: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[message, *_]) if name == error:
                yield re.sub("…+", "…", template(message))


def messages(source: str) -> set[str]:
    """Every InputError's message, a Breach's too, and the ValueErrors of sections' bad values."""
    module = ast.parse(source)
    sections = [
        node
        for node in module.body
        if isinstance(node, ast.ClassDef) and "Section" in map(ast.unparse, node.bases)
    ]
    found = [m for name in ("InputError", "Breach", "StoppedError") for m in raised(module, name)]
    return {*found, *(m for s in sections for m in raised(s, "ValueError"))}


def entries(page: str) -> dict[str, str]:
    """Message -> what the page says of it."""
    told = page.split("\n## Errors\n")[1]
    return {" ".join(message.split()): text for message, text in ENTRY.findall(told)}


def all_messages() -> set[str]:
    files = [p for top in ("din_model", "pipelines", "jobs") for p in (ROOT / top).rglob("*.py")]
    return {message for path in files for message in messages(path.read_text())}


def test_every_message_has_an_entry():
    assert sorted(all_messages() - set(entries(PAGE.read_text()))) == []


def test_every_entry_has_a_message():
    assert sorted(set(entries(PAGE.read_text())) - all_messages()) == []


def test_every_entry_is_unique_and_has_an_action():
    page = PAGE.read_text()
    told = entries(page)
    assert [message for message, text in told.items() if "→ " not in text] == []
    assert len(told) == len(re.findall(r"^- `", page.split("\n## Errors\n")[1], re.MULTILINE))


def test_a_heading_is_the_constant_parts_of_a_message():
    source = """
class TrainConfig(Section):
    def __post_init__(self):
        raise ValueError("set patience")

def read(path, days):
    if not days:
        raise InputError(f"{path}: no {'file' if path else 'table'}{path}" " for it")
    raise ValueError("ours to mend")
"""
    assert messages(source) == {"set patience", "…: no … for it"}
