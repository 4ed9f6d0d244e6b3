"""Packages import one way, without a cycle, and setup.py ships every module."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]

LAYERS = {
    "din_model": [
        {"masking", "termination", "yaml_text", "declarations"}, {"errors", "names"},
        {"config", "console", "feature_checks"}, {"features"}, {"ranges"},
        {"distributed"}, {"data"}, {"modules"}, {"evaluation"}, {"training"}, {"registry"},
    ],
    "pipelines": [
        {"access", "columns", "failures", "java_output", "spec"}, {"caching", "shipping"},
        {"session"}, {"store"}, {"ingest"}, {"examples"}, {"training"},
        {"sinks"}, {"scoring"}, {"reports"}, {"erasure", "observe", "sensor"},
    ],
    "jobs": [{"cli"}],
}  # fmt: skip
"""Packages and modules of each top-level package, from the bottom; the jobs are on top."""

TOPS = list(LAYERS)

FOREIGN = {
    "pyspark": ("pipelines", "jobs"),
    "mlflow": ("din_model.registry.tracking", "din_model.registry.versions",
               "din_model.registry.pyfunc"),
    "petastorm": ("din_model.data.petastorm_adapter",),
    "torchrec": ("din_model.modules.sharded_embeddings",),
    "deltalake": ("pipelines.store.delta", "pipelines.ingest.delta_tables"),
    "psycopg": ("pipelines.sinks.postgres_copy",),
    "redis": ("pipelines.sinks.redis_keys",),
    "prometheus_client": ("pipelines.observe.metrics_file",),
    "openlineage": ("pipelines.observe.lineage",),
}  # fmt: skip
"""Library -> the only packages or modules that may import it."""


def modules(root: Path) -> dict[str, set[str]]:
    """Dotted name of each module -> what it imports, wherever in its text."""
    found = {}
    for top in TOPS:
        for path in sorted((root / top).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = set(imported(path))
    return found


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            # ``from package import module`` may name a module or a value of the package.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def height(module: str) -> tuple[int, int]:
    """Where a module stands: the top-level package, then the layer in it."""
    top, *rest = module.split(".")
    layers = LAYERS[top]
    layer = next((i for i, names in enumerate(layers) if rest and rest[0] in names), len(layers))
    return TOPS.index(top), layer


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a higher layer, or of a sibling package of the same layer."""
    wrong = []
    for module, names in graph.items():
        for name in (n for n in names if n.split(".")[0] in TOPS):
            own, other = module.split(".")[:2], name.split(".")[:2]
            if own != other and height(name) >= height(module):
                wrong.append(f"{module} imports {name}")
    return wrong


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of modules, if there is one."""
    known = {m: {k for n in names for k in (n, n.rpartition(".")[0]) if k in graph and k != m}
             for m, names in graph.items()}  # fmt: skip
    # A package's own docstring module imports nothing, so it closes no cycle.
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def not_shipped(root: Path) -> set[str]:
    packages = set(find_packages(str(root), include=[f"{top}*" for top in TOPS]))
    folders = {path.parent for top in TOPS for path in (root / top).rglob("*.py")}
    return {".".join(f.relative_to(root).parts) for f in folders} - packages


def test_packages_import_one_way():
    assert upward(modules(ROOT)) == []


def test_no_modules_import_each_other_in_a_cycle():
    assert cycles(modules(ROOT)) == []


def test_every_layer_exists():
    for top, layers in LAYERS.items():
        for name in set().union(*layers):
            path = ROOT / top / name
            assert path.is_dir() or path.with_suffix(".py").is_file(), path


def test_setup_ships_every_module():
    assert not_shipped(ROOT) == set()
    assert (
        'find_packages(include=["din_model*", "pipelines*", "jobs*"])'
        in (ROOT / "setup.py").read_text()
    )


@pytest.mark.parametrize("library", FOREIGN)
def test_a_library_is_imported_in_one_place(library):
    users = {
        m for m, names in modules(ROOT).items() if any(n.split(".")[0] == library for n in names)
    }
    allowed = FOREIGN[library]
    assert {m for m in users if not m.startswith(allowed)} == set()


def test_the_contract_imports_only_the_standard_library():
    found, parts = modules(ROOT), ("features", "feature_checks", "declarations", "names")
    imports = set().union(*(found[f"din_model.{part}"] for part in parts))
    own = {name.split(".")[1] for name in imports if name.startswith("din_model.")}
    assert own <= {*parts, "errors"}
    assert {name.split(".")[0] for name in imports} - {"din_model"} <= set(sys.stdlib_module_names)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree of the same top-level packages, without faults."""
    for path, text in {
        "din_model/data/loader.py": "from din_model import features",
        "din_model/features.py": "",
        "pipelines/store/store.py": "from din_model.data.loader import Loader",
        "pipelines/scoring/udf.py": "from pipelines.store.store import Store",
        "jobs/cli.py": "from pipelines.scoring import udf",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    for top in TOPS:
        (tmp_path / top / "__init__.py").touch()
    return tmp_path


def test_a_tree_without_faults_passes(tree):
    assert (upward(modules(tree)), cycles(modules(tree)), not_shipped(tree)) == ([], [], set())


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("din_model/data/loader.py", "from pipelines.store.store import Store"),
        ("pipelines/store/store.py", "from pipelines.scoring.udf import score"),
        ("pipelines/store/store.py", "def f():\n    import jobs.cli"),
    ],
)
def test_an_import_against_the_direction_is_found_in_a_nested_package(tree, module, line):
    (tree / module).write_text(line)
    assert len(upward(modules(tree))) == 1


def test_a_cycle_within_a_package_is_found(tree):
    (tree / "pipelines/store/commit.py").write_text("from pipelines.store.store import Store")
    (tree / "pipelines/store/store.py").write_text("from pipelines.store import commit")
    assert set(cycles(modules(tree))) == {"pipelines.store.commit", "pipelines.store.store"}


def test_a_module_in_a_folder_that_is_no_package_is_found(tree):
    (tree / "pipelines/store/files").mkdir()
    (tree / "pipelines/store/files/parquet.py").touch()
    assert not_shipped(tree) == {"pipelines.store.files"}
