"""Random configurations end right or with one line, on the path of the command line.

Each starts from a configuration that the project ships, and is damaged in one to four places.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from din_model.config import build, load, to_dict
from din_model.features import FeatureSpec
from jobs.cli import Settings, command_line, resolve
from pipelines.examples.binning import with_measures
from pipelines.ingest.logs import Logs
from pipelines.ingest.quarantine import reasons
from pipelines.ingest.source_checks import check_sources
from pipelines.ingest.sources import start_of
from pipelines.store.store import Store
from pipelines.training.training_set import training_days
from tests.fuzz import profile, require_one_line
from tests.nights import DEMO

SHIPPED = [DEMO, *sorted((DEMO.parent / "datasets").glob("*.yaml"))]
WRITTEN = [yaml.load(path.read_text(), yaml.BaseLoader) for path in SHIPPED]
COMPLETE = [to_dict(load(Settings, [str(path)])) for path in SHIPPED]
"""The same with every key that has a default."""

WORDS = (
    "", " ", "~", "null", "no", "yes", "on", "true", "False", "NaN", ".nan", "inf", "-.inf", "0x1F",
    "1e400", "-1e308", "1e-320", "0o17", "1:30", "1_000", "1,5", "9" * 19, "9" * 400, "2026-02-30",
    "2026-11-22T00:00", "0001-01-01", "9999-12-31", "-1d", "1e3d", "0.1us", "\u0661d", "day", "all",
    "impression", "impressions", "clicks", "user_id", "item_id", "User_ID", "label", "time", "_at",
    "__", "a.b", "class", "${}", "${HOME}", "${NOT_SET}", "${A B}", "{date}", "{", "[", "%", "\\",
    "`", "'", '"', "a\nb", "a\tb", "\x00", "\x1b[31m", "\x85", "\u2028", "\u202e", "\ud800", "ß",
    "\ufeff", "é", "e\u0301", "😀", "x" * 300, "x" * 20_000, "select 1", "drop table raw", "csv",
    "parquet", "Europe", "../etc", "file:///", "s3://", "://", "postgresql://me@host/db", "<<", "=",
    "https://user:pass@host/", "memory://x", "*", "*a", "[" * 3000, "&a [*a]", "!!int x",
)  # fmt: skip
NUMBERS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "0.5",
    "-0.0",
    "1e-9",
    "1e6",
    "2147483648",
    "9223372036854775808",
]
DURATIONS = ("0s", "1us", "0.5d", "1d", "30d", "1.5h", "400000d", "99999999999999d", " 1d ", "1 d")
DATES = [
    "0001-01-01",
    "1969-12-31",
    "2026-11-01",
    "2026-11-23",
    "9999-12-31",
    "2026-11-20T00:00:00",
]
texts = st.sampled_from(WORDS) | st.text(max_size=8)
numbers = st.integers() | st.floats() | st.booleans()
values = st.recursive(
    st.none() | texts | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
USED = sorted({word for data in COMPLETE for word in json.dumps(data).split('"')[1::2]})
"""Keys and values of the shipped configurations."""
keys = texts | st.sampled_from(USED)


def alike(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same sort, which get further than any value does."""
    if isinstance(value, list):
        inner = st.sampled_from(USED) | (st.sampled_from(value) if value else st.none())
        return st.lists(inner, max_size=4)
    if isinstance(value, dict):
        return st.dictionaries(keys, st.sampled_from([*value.values(), {}]), max_size=3)
    text = str(value)
    if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", text):
        return st.sampled_from(NUMBERS)
    if re.fullmatch(r"[0-9]+[a-z]+", text):
        return st.sampled_from(DURATIONS)
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return st.sampled_from(DATES)
    return keys | st.sampled_from((*NUMBERS, *DURATIONS, *DATES, True, False))


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every mapping or list with each of its keys or positions, at any depth."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from places(value)


@st.composite
def documents(draw: Any, of: Sequence[Any] = (*WRITTEN, *COMPLETE), within: Any = ()) -> str:
    """A YAML file whose data is damaged, in the sections ``within`` or anywhere."""
    data = copy.deepcopy(draw(st.sampled_from(of)))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        found = list(places({name: data[name] for name in within if name in data} or data))
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        step = draw(
            st.sampled_from(("replace", "replace", "replace", "drop", "add", "rename", "move"))
        )
        if step == "replace":
            holder[key] = draw(st.one_of(alike(holder[key]), alike(holder[key]), values))
        elif step == "drop":
            del holder[key]
        elif step == "move":
            other, place = draw(st.sampled_from(found))
            other[place] = copy.deepcopy(holder[key])
        elif isinstance(holder, list):
            holder.insert(key, draw(values))
        else:
            holder[draw(keys)] = draw(values) if step == "add" else holder.pop(key)
    return yaml.dump(data, allow_unicode=draw(st.booleans()), sort_keys=False)


@st.composite
def damaged_texts(draw: Any) -> str:
    """A YAML file whose text is damaged."""
    text = draw(st.sampled_from(SHIPPED)).read_text()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        step = draw(st.sampled_from(("insert", "cut", "repeat", "replace")))
        if step == "insert":
            text = text[:place] + draw(texts) + text[place:]
        elif step == "cut":
            text = text[:place] + text[place + draw(st.integers(1, 60)) :]
        elif step == "repeat":
            lines = text.splitlines(keepends=True)
            number = draw(st.integers(0, len(lines) - 1)) if lines else 0
            text = "".join([*lines[:number], *lines[number : number + 1] * 2, *lines[number + 1 :]])
        else:
            text = text[:place] + draw(texts) + text[place + 1 :]
    return text


@st.composite
def overrides(draw: Any) -> str:
    data = draw(st.sampled_from(COMPLETE))
    _, key = draw(st.sampled_from(list(places(data))))
    path = draw(st.sampled_from(paths(data)) | keys)
    value = draw(
        texts | values.map(json.dumps) | st.sampled_from(("[", "{a", '"', "[[[[", "{a: {b: [}"))
    )
    return draw(st.sampled_from((f"{path}={value}", f"{path}.{value}={key}", f"{path}")))


def cases_of() -> st.SearchStrategy[tuple[str, list[str]]]:
    """A file and the words after it, of which one sort is damaged."""
    shipped = st.sampled_from(SHIPPED).map(Path.read_text)
    return st.one_of(
        st.tuples(documents(), st.just([])),
        st.tuples(documents(), st.just([])),
        st.tuples(damaged_texts(), st.just([])),
        st.tuples(shipped, st.lists(overrides(), min_size=1, max_size=2)),
    )


def paths(data: Any) -> list[str]:
    found = []
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        found.append(str(key))
        if isinstance(value, (dict, list)):
            found += [f"{key}.{rest}" for rest in paths(value)]
    return found


def before_spark(path: str, words: list[str]) -> Settings:
    """What the jobs do with a configuration before they start Spark."""
    arguments = command_line(None, {"model": "score.model"}).parse_args(["--config", path])
    arguments.overrides = words
    found, day = resolve(arguments, True, {"model": "score.model"})
    assert day is not None
    assert FeatureSpec.from_json(found.spec.to_json()) == found.spec
    assert build(Settings, json.loads(json.dumps(to_dict(found))), "itself") == found
    training_days(found.train, found.split, day, found.history.since, found.sources.lost_dates)
    start_of(day + timedelta(days=1), found.spec.time_zone)
    Store(found.store.path)
    return found


CASES = pytest.mark.parametrize("cases", [60, pytest.param(2000, marks=pytest.mark.slow)])
WITH_LOGS = pytest.mark.parametrize("cases", [10, pytest.param(300, marks=pytest.mark.slow)])


@CASES
def test_a_random_configuration_is_read_or_refused_with_one_line(cases, tmp_path):
    path = tmp_path / "random.yaml"

    @profile(cases)
    @given(cases_of())
    def check(case: tuple[str, list[str]]) -> None:
        text, words = case
        path.write_text(text, "utf-8", "surrogatepass")
        try:
            before_spark(str(path), words)
        except Exception as error:
            require_one_line(error)

    check()


def logs_in(folder: Path) -> dict[str, Any]:
    """Write three rows of each of the demo's logs; return the configuration that reads them."""
    data = yaml.load(DEMO.read_text().replace("out/demo", str(folder)), yaml.BaseLoader)
    places = {"history": data["sources"]["behaviours"][0]}
    places |= {name: data["sources"][name] for name in ("items", "users", "candidates")}
    for place in places.values():
        place["format"] = "json"
    rows = [
        {"impression_id": f"i{n}", "user_id": f"u{n % 2}", "item_id": n,
         "time": f"2026-11-22 0{n}:00:00", "position": n,
         "true_probability": 0.5, "segment": "s", "category": "c"}
        for n in range(3)
    ]  # fmt: skip
    for name in ("impressions", "clicks", "history", "items", "users", "candidates"):
        dates = [""] if name == "history" else [f"date=2026-11-{day}" for day in range(19, 24)]
        for each in dates:
            file = folder / "logs" / name / each / "part.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            own = [row for row in rows if name != "users" or row["item_id"] < 2]
            file.write_text("\n".join(map(json.dumps, own)))
    return data


@WITH_LOGS
def test_a_random_configuration_reads_logs_or_is_refused_with_one_line(spark, tmp_path, cases):
    path, data = tmp_path / "random.yaml", logs_in(tmp_path)

    @profile(cases)
    @given(documents([data], ("sources", "features", "history")))
    def check(text: str) -> None:
        path.write_text(text, "utf-8", "surrogatepass")
        try:
            read_logs(spark, before_spark(str(path), []))
        except Exception as error:
            require_one_line(error)

    check()


def read_logs(spark: SparkSession, found: Settings) -> None:
    """What jobs.check and a build do first."""
    day = found.date
    assert day is not None
    spark.conf.set("spark.sql.session.timeZone", found.spec.time_zone)
    check_sources(spark, found.sources)
    logs = Logs(spark, found.sources, found.spec, found.history.since)
    logs = with_measures(logs, Store(found.store.path), day)
    reasons(logs.impressions(day, day))
    reasons(logs.behaviours(None, day))
    reasons(logs.candidates(day))
