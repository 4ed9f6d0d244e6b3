"""YAML whose scalars are text: the type of a key decides what they mean, not their looks.

YAML 1.1 reads 0000010 as 8, 1:30 as 90, and ``no`` as false. Here only ``null``, ``~`` and nothing
are special. A key that stands twice in a mapping is an error, and so is a tag such as ``!!int``.
"""

from typing import Any

import yaml

PLAIN = ("str", "null", "seq", "map")
"""Tags of what this module returns."""

DEEPEST, MOST = 50, 1_000_000
"""Levels and values of a file. An alias can hold itself, or stand for billions of values."""


class _TextLoader(yaml.SafeLoader):
    """Resolves null and the merge key only."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys are text, each once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not text", key.start_mark
                )
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
            if key.tag == "tag:yaml.org,2002:null":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {
    letter: [r for r in resolvers if r[0].rpartition(":")[2] in ("null", "merge")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TextLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in PLAIN
}


def parse(text: str) -> Any:
    """Return nested dicts, lists, texts and None.

    Raises:
        yaml.YAMLError: not valid YAML, a key that stands twice, a tag, too many levels or values.
    """
    loader = _TextLoader(text)
    try:
        data = loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError(f"more than {DEEPEST} levels of lists and mappings") from None
    finally:
        loader.dispose()
    _require_small(data)
    return data


def _require_small(data: Any) -> None:
    """Count levels and values as they stand without aliases."""
    waiting, values = [(data, 1)], 0
    while waiting:
        value, level = waiting.pop()
        values += 1
        if level > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels of lists and mappings")
        if values > MOST:
            raise yaml.YAMLError(f"more than {MOST:,} values: an alias is repeated too often")
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, (dict, list)):
            waiting += [(each, level + 1) for each in inner]
