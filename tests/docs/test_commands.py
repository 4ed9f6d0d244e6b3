"""What the README and docs/ tell to type can be typed: jobs, options, keys, targets, links."""

import ast
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest

from din_model.config import load
from docs import configuration
from jobs.cli import Settings, command_line, resolve
from pipelines.store.data_sets import DATA_SETS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
YAML = re.compile(r"^( *)```yaml.*?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
REQUIRED = {"store", "sources", "features", "history"}
COMMAND = re.compile(
    r"(\S+=\S+ +)*(\S*python -m (jobs|benchmarks|docs)\.|make |\S*spark-submit |\S*torchrun )"
)
# Forms and excerpts, which nobody types as they stand.
FORM = re.compile(r"…|\b[A-Z]{4,}\b(?!=)(?!})|\[--")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command: lines of blocks, and what stands in backticks in a text."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```sh.*?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        if COMMAND.match(line) and not FORM.search(line):
            yield shlex.split(re.sub(r"\s+#.*", "", line))


def of_main(job: str) -> dict[str, object]:
    """What a job tells jobs.cli.main: whether it needs a date, and options of its own."""
    for node in ast.walk(ast.parse((ROOT / "jobs" / f"{job}.py").read_text())):
        match node:
            case ast.Call(func=ast.Name(id="main"), keywords=words):
                return {str(w.arg): ast.literal_eval(w.value) for w in words}
    raise LookupError(f"jobs/{job}.py is no job")


def try_job(job: str, words: list[str]) -> None:
    told = of_main(job)
    options = told.get("options", {})
    assert isinstance(options, dict)
    parsed = command_line(None, options).parse_intermixed_args(words)
    resolve(parsed, bool(told.get("dated", True)), options)


def try_words(words: list[str]) -> None:
    """Fail where one of the words is not known."""
    if "make" in words:
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {w for w in words[words.index("make") + 1 :] if "=" not in w} <= {*targets}
        return
    place = next(i for i, word in enumerate(words) if re.fullmatch(r"\w+\.\w+|jobs/\w+\.py", word))
    package, name = re.split(r"[./]", words[place])[:2]
    if package == "jobs":
        try_job(name, words[place + 1 :])
        return
    source = (ROOT / package / f"{name}.py").read_text()
    options = {word for word in words[place + 1 :] if word.startswith("--")}
    assert options <= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', source))


def yaml_blocks(page: Path) -> list[str]:
    return [
        re.sub(f"^{pad}", "", text, flags=re.MULTILINE)
        for pad, text in YAML.findall(page.read_text())
    ]


def whole(text: str) -> bool:
    return set(re.findall(r"^(\w+):", text, re.MULTILINE)) >= REQUIRED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_docs_parses(page, tmp_path, monkeypatch):
    own = [text for text in yaml_blocks(page) if whole(text)]
    example = own or [text for text in yaml_blocks(ROOT / "docs" / "tutorial.md") if whole(text)]
    (tmp_path / "my.yaml").write_text(example[0])
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    for words in commands(page):
        try:
            try_words(words)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{page.name}: {shlex.join(words)}: {error!r}")


def keys() -> re.Pattern[str]:
    """Matches every dotted key; below a key of free names, whatever follows."""
    told = []
    for section, paths in configuration.sections().items():
        for path, field in product(paths or [""], fields(section)):
            free = r"(\.\w+)*" if "dict" in str(field.type) else ""
            told.append(re.escape(f"{path}.{field.name}".strip(".")) + free)
    return re.compile("|".join(told).replace("NAME", r"\w+").replace(r"\[\]", r"(\.\d+)?"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_key_in_the_docs_exists(page):
    known, sections = keys(), {field.name for field in fields(Settings)}
    named = re.findall(r"`'?([a-z_]+(?:\.\w+)+)(?=[=:` ])", page.read_text())
    mine = [name for name in named if name.split(".")[0] in sections]
    assert [name for name in mine if not known.fullmatch(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_in_the_docs_loads(page, tmp_path):
    for text in yaml_blocks(page):
        (tmp_path / "piece.yaml").write_text(text)
        base = [] if whole(text) else [str(ROOT / "conf" / "demo.yaml")]
        load(Settings, [*base, str(tmp_path / "piece.yaml")])


def test_the_table_of_jobs_has_every_job_and_no_other():
    jobs = {p.stem for p in (ROOT / "jobs").glob("*.py") if '== "__main__"' in p.read_text()}
    table = (ROOT / "docs" / "running.md").read_text().split("\n## Jobs\n")[1].split("\n## ")[0]
    assert jobs == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_the_table_of_data_sets_says_what_is_declared():
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    declared = [
        (d.name, d.row, ", ".join(f"`{name}`" for name in d.upstream), d.user.value)
        for d in DATA_SETS.values()
    ]
    assert [row for row in listed if row[0] in DATA_SETS] == declared


def test_the_tree_in_the_architecture_page_has_every_file_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page.split("## The tree")[1].split("```")[1]
    folders: list[str] = []
    listed = set()
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        folders = folders[: len(indent) // 2]
        if name.endswith("/"):
            folders.append(name)
        else:
            listed.add("".join(folders) + name)
    tops = ("din_model", "pipelines", "jobs", "benchmarks", "docs", "conf")
    files = {p for top in tops for p in (ROOT / top).rglob("*") if p.suffix not in ("", ".pyc")}
    assert listed == {str(p.relative_to(ROOT)) for p in files if p.name != "__init__.py"}


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = Path(os.path.normpath(page.parent / path)) if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [p.name for p in PAGES if f"({p.relative_to(ROOT)})" not in readme] == ["README.md"]
