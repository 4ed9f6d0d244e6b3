"""YAML whose scalars are text: the type of a key decides what they mean, not their looks.

YAML 1.1 reads 0000010 as 8, 1:30 as 90, and ``no`` as false. Here only ``null``, ``~`` and nothing
are special. A key that stands twice in a mapping is an error.
"""

from typing import Any

import yaml


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


def parse(text: str) -> Any:
    """Return nested dicts, lists, texts and None.

    Raises:
        yaml.YAMLError: not valid YAML, or a key that stands twice.
    """
    loader = _TextLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
