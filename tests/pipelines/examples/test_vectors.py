"""Each vector is published once, under an id of its own, and examples hold the id."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.erasure import erase
from pipelines.examples.binning import with_measures
from pipelines.examples.build import build_day
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.examples.vectors import load_vectors
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import SideTable
from pipelines.spec import ColumnConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store
from tests.pipelines.examples.test_build import DAY, FEATURES, NEXT, impressions, logs_of

ITEMS = [2**53 + n for n in range(17)]
FIRST = {item: [float(n), 1.0, -0.5] for n, item in enumerate(ITEMS)}
NEVER_SHOWN = 7
VECTORS = {
    DAY: FIRST,
    NEXT: FIRST | {ITEMS[0]: [9.0, 9.0, 9.0], NEVER_SHOWN: [5.0, 5.0, 5.0]},
}


def with_vectors(spark: SparkSession, folder: Path, vectors=VECTORS, side="item") -> Logs:
    rows = impressions(80)
    rows += [
        row | {"id": f"next {row['id']}", "at": row["at"].replace(str(DAY), str(NEXT))}
        for row in rows
    ]
    logs = logs_of(spark, folder, rows)
    # The first build also looks for impressions before its day.
    for day, of_day in {DAY - timedelta(days=1): vectors[DAY], **vectors}.items():
        lines = [json.dumps({side: key, "look": values}) for key, values in of_day.items()]
        (folder / f"{side}s-{day}.json").write_text("\n".join(lines))
    columns = FEATURES.columns | {"look": ColumnConfig(side=side, type="vector", dimension=4)}
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, "day", length=5)
    spec = feature_spec(replace(FEATURES, columns=columns), history)
    key = "bigint" if side == "item" else "string"
    table = SideTable(
        path=f"{folder}/{side}s-{{date}}.json", format="json",
        schema=f"{side} {key}, look array<double>",
    )  # fmt: skip
    return replace(logs, spec=spec, sources=replace(logs.sources, **{f"{side}s": table}))


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Logs, Store]:
    folder = tmp_path_factory.mktemp("vectors")
    store = Store(str(folder / "store"))
    logs = with_measures(with_vectors(spark, folder), store, DAY)
    for day in (DAY, NEXT):
        build_day(logs, store, BuildConfig(), SplitConfig(), day)
    return logs, store


def looks(logs: Logs, store: Store, day: date) -> list[tuple[float, ...]]:
    """The vector that each example of a day names."""
    rows = store.read(logs.spark, [store.require("examples", day, "")]).select("look").collect()
    table = load_vectors(store, logs.spec, day)["look"]
    return sorted(tuple(table[row["look"]]) for row in rows)


def test_the_first_build_measures_the_length_of_vectors(built):
    assert built[0].spec["look"].size == 3


def test_examples_name_the_vector_of_their_own_day(built):
    logs, store = built
    for day in (DAY, NEXT):
        expected = [tuple(VECTORS[day][2**53 + n % 17]) for n in range(80)]
        assert looks(logs, store, day) == sorted(expected)


def test_behaviours_keep_the_vector_of_their_time(built):
    logs, store = built
    rows = store.read(logs.spark, [store.require("examples", NEXT, "")]).collect()
    table = load_vectors(store, logs.spec, NEXT)["look"]
    held = {tuple(table[i]) for row in rows for i in row["clicks__look"] or () if i}
    assert held
    assert held <= {tuple(vector) for vector in FIRST.values()}


def test_every_vector_is_published_once_also_of_items_never_shown(built):
    _, store = built
    assert store.require("vectors", DAY, "").rows == len(FIRST)
    assert store.require("vectors", NEXT, "").rows == 2
    logs, _ = built
    table = load_vectors(store, logs.spec, NEXT)["look"]
    assert [5.0, 5.0, 5.0] in table.tolist()
    assert len(load_vectors(store, logs.spec, DAY)["look"]) == 2 + len(FIRST)


def test_the_first_build_refuses_broken_vectors_without_a_length(spark, tmp_path):
    logs = with_vectors(spark, tmp_path, {DAY: FIRST | {ITEMS[4]: [1.0, None]}})
    with pytest.raises(InputError, match=r"1 of 17 rows have a look that is not finite numbers:"):
        with_measures(logs, Store(str(tmp_path / "store")), DAY)


def test_a_table_with_many_broken_vectors_is_refused(spark, tmp_path):
    broken = FIRST | {ITEMS[3]: [1.0, 2.0], ITEMS[4]: [1.0, 2.0, None]}
    store = Store(str(tmp_path / "store"))
    logs = with_measures(with_vectors(spark, tmp_path), store, DAY)
    with_vectors(spark, tmp_path, {DAY: broken})
    with pytest.raises(InputError, match=r"sources\.items: 2 of 17 rows have a look that is not 3"):
        build_day(logs, store, BuildConfig(), SplitConfig(), DAY)


def test_a_vector_without_its_side_table_is_refused(spark, tmp_path):
    logs = with_vectors(spark, tmp_path)
    logs = replace(logs, sources=replace(logs.sources, items=None))
    with pytest.raises(InputError, match=r"features\.columns\.look: a vector is read from"):
        with_measures(logs, Store(str(tmp_path / "store")), DAY)


def test_the_vectors_of_an_erased_user_are_removed(spark, tmp_path):
    of_users = {DAY: {"u0": [1.0, 2.0], "u1": [3.0, 4.0]}}
    store = Store(str(tmp_path / "store"))
    logs = with_measures(with_vectors(spark, tmp_path, of_users, "user"), store, DAY)
    build_day(logs, store, BuildConfig(), SplitConfig(), DAY)
    assert np.array([1.0, 2.0]) in load_vectors(store, logs.spec, DAY)["look"]
    erase(spark, store, BuildConfig(), ["u0"])
    assert load_vectors(store, logs.spec, DAY)["look"].tolist().count([1.0, 2.0]) == 0
    keys = store.read(spark, store.manifests("vocabulary")).where("vocabulary = 'look'").collect()
    assert [row["key"].split(" ")[0] for row in keys] == ["u1"]
