"""What no module of ours may do: run a shell, or handle what can run code when it is read."""

import ast
import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MODULES = [p for name in ("din_model", "pipelines", "jobs") for p in (ROOT / name).rglob("*.py")]
PACKED = {"python_version": "3.11"}
"""What the list of licences was made on."""

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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_and_no_pickle(path):
    names = named(ast.parse(path.read_text()))
    assert not sorted(name for name in names if FORBIDDEN.fullmatch(name))


def pinned(file: str) -> dict[str, str]:
    """The version of each package."""
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    pins = [Requirement(line) for line in lines if line]
    here = [pin for pin in pins if not pin.marker or pin.marker.evaluate(PACKED)]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in here}


def test_every_requirement_is_pinned_and_its_pin_allowed():
    pins = pinned("constraints.txt")
    for text in requires("din-pipeline") or ():
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


def needed(package: str, extras: frozenset[str], found: dict[str, frozenset[str]]) -> None:
    """Gather what a package needs, and what that needs, with the extras that are asked for."""
    name = canonicalize_name(package)
    if extras <= found.get(name, frozenset()) and name in found:
        return
    found[name] = found.get(name, frozenset()) | extras
    for text in requires(package) or ():
        wanted = Requirement(text)
        asked = [PACKED | {"extra": extra} for extra in extras or {""}]
        if not wanted.marker or any(wanted.marker.evaluate(each) for each in asked):
            needed(wanted.name, frozenset(wanted.extras), found)


OF_CUDA = ("cuda-", "nvidia-", "triton")
"""Packages that only torch's CUDA builds need; constraints.txt pins a CPU build's set."""


def test_the_licence_of_every_package_that_executors_get_is_listed_at_its_pin():
    rows = (ROOT / "docs" / "licences.md").read_text().splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    told = {canonicalize_name(name): (version, licence) for name, version, licence, _ in cells}
    found: dict[str, frozenset[str]] = {}
    extras = frozenset({"s3", "postgres", "redis", "prometheus", "lineage"})
    needed("din-pipeline", extras, found)
    pins = pinned("constraints.txt")
    for name in found.keys() - {"din-pipeline", "setuptools"}:
        if name.startswith(OF_CUDA):
            continue
        version, licence = told[name]
        assert version.split("+")[0] == pins[name], name
        assert licence, name
