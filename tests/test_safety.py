"""What no module of ours may do: run a shell, or handle what can run code when it is read."""

import ast
import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MODULES = [p for name in ("din_model", "pipelines", "jobs") for p in (ROOT / name).glob("*.py")]
FORBIDDEN = re.compile(
    r"shell=|os\.(system|popen|exec\w*|spawn\w*)|pickle|cloudpickle|joblib|marshal|shelve|eval|exec"
    r"|yaml\.(load|unsafe_load|full_load)|torch\.(load|save)"
)


def named(tree: ast.AST) -> set[str]:
    """The modules that are imported, all that is called, and the names of what it is given."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
        elif isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {f"{word.arg}=" for word in node.keywords}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_shell_and_no_pickle(path):
    names = named(ast.parse(path.read_text()))
    assert not sorted(name for name in names if FORBIDDEN.fullmatch(name))


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    pairs = [line.split("#")[0].strip().split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_is_pinned_and_its_pin_allowed():
    pins = pinned("constraints.txt")
    for text in requires("din-pipeline") or ():
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text
