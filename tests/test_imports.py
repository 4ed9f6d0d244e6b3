"""Imports go one way: jobs -> pipelines -> din_model."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def tops(package: str) -> dict[str, set[str]]:
    found = {}
    for path in (ROOT / package).glob("*.py"):
        found[path.name] = {name.split(".")[0] for name in imported(path)}
    return found


def test_imports_go_one_way():
    assert not [f for f, t in tops("din_model").items() if t & {"pyspark", "pipelines", "jobs"}]
    assert not [f for f, t in tops("pipelines").items() if "jobs" in t]


def test_mlflow_is_known_to_the_registry_alone():
    everywhere = {**tops("din_model"), **tops("pipelines"), **tops("jobs")}
    assert {f for f, t in everywhere.items() if "mlflow" in t} == {"registry.py", "pyfunc.py"}


def test_the_contract_needs_the_standard_library_alone():
    names = imported(ROOT / "din_model" / "features.py") - {"din_model.errors"}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)
