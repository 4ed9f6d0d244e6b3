"""Which names examples can have, and what becomes of others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from din_model.names import OF_SCORES, RESERVED, column_name, is_column
from pipelines.scoring.scorer import COLUMNS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["item", "user_id", "deviceType", "x1", "items", "type", "Class"])
def test_a_plain_name_stays(name):
    assert column_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["item.id", "user id", "preis_€", "€", "class", "_id", "id_", "a__b", "Kind", "reason", "1st"],
)
def test_any_other_name_becomes_one_that_examples_can_have(name):
    assert column_name(name) != name
    assert is_column(column_name(name))
    assert column_name(name) == column_name(name)


def test_names_that_read_alike_stay_different():
    names = ["item.id", "item id", "item-id", "item__id", "€", "£"]
    assert len({column_name(name).lower() for name in names}) == len(names)


def added_columns(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives to columns, where they are written out."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="alias"), args=names):
                yield from written(names)
            case ast.Call(func=ast.Attribute(attr="withColumn" | "withColumnRenamed"), args=names):
                yield from written(names[-2:-1] if node.func.attr == "withColumn" else names[1:])
            case ast.Call(func=ast.Attribute(attr="withColumns"), args=[ast.Dict(keys=names)]):
                yield from written(names)


def written(nodes: list[ast.expr | None]) -> list[str]:
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [value for value in values if isinstance(value, str)]


def test_every_column_of_ours_is_reserved_or_begins_with_an_underscore():
    files = sorted((ROOT / "pipelines").rglob("*.py"))
    added = {name for path in files for name in added_columns(ast.parse(path.read_text()))}
    assert "reason" in added
    assert {name for name in added if not name.startswith("_")} - RESERVED == set()


def test_the_columns_of_scores_are_known():
    assert set(COLUMNS) - {"user_key", "item_key"} <= OF_SCORES
