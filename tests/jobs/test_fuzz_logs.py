"""Random small logs become examples that add up, or are refused with one line.

Nothing here asks which values are good: it counts rows, and compares examples with the rows of the
logs and histories with the other examples.
"""

from collections import Counter
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from pyspark.sql import SparkSession

from pipelines.examples.build import build_day
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import BehaviourSource, Source, SourcesConfig, start_of
from pipelines.spec import ColumnConfig, FeaturesConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Manifest, Store
from tests.fuzz import profile, require_one_line
from tests.odd_files import write
from tests.odd_logs import DAY, OddLogs, odd_logs

LENGTH = 3
"""Longest history."""


def sources(odd: OddLogs, folder: Path) -> SourcesConfig:
    of_text = odd.format != "parquet"
    columns = "user string, item string, category string, at string"
    schema = columns if of_text and odd.with_schema else None
    options = {"header": "true"} if odd.format == "csv" else None
    common: dict[str, Any] = {
        "format": odd.format,
        "options": options,
        "time_unit": odd.unit or None,
    }
    of_shown = schema and f"{schema}, clicked string, id string, w string, price string"
    behaviours = [BehaviourSource(origin="impressions", label_delay="0s")]
    if odd.behaviours:
        behaviours.append(BehaviourSource(path=f"{folder}/behaviours", schema=schema, **common))
    return SourcesConfig(
        impressions=Source(path=f"{folder}/impressions/{{date}}", schema=of_shown, **common),
        behaviours=tuple(behaviours),
        clicks=Source(path=f"{folder}/clicks/{{date}}", schema=of_shown, **common)
        if odd.clicks else None,
    )  # fmt: skip


def logs_of(spark: SparkSession, odd: OddLogs, folder: Path) -> Logs:
    features = FeaturesConfig(
        user="user", item="item", time="at", label="clicked", key=("id",) if odd.keyed else (),
        weight="w" if odd.weighed else None, time_zone=odd.zone,
        counters=None if odd.keyed else {},
        columns={
            "user": ColumnConfig("user", odd.user), "item": ColumnConfig("item", odd.item),
            "category": ColumnConfig("item"), "price": ColumnConfig("item", "number"),
        },
    )  # fmt: skip
    fields = {"item": "item", "category": "category"}
    spec = feature_spec(features, HistoryConfig({"clicks": KindConfig(fields)}, odd.cutoff, LENGTH))
    spark.conf.set("spark.sql.session.timeZone", odd.zone)
    return Logs(spark, sources(odd, folder), spec, DAY)


def published(store: Store, manifests: list[Manifest]) -> list[dict[str, Any]]:
    tables = [
        pq.read_table(url.removeprefix("file://")) for m in manifests for url in store.urls(m)
    ]
    return [row for each in tables for row in each.to_pylist()]


def names_of(value: Any) -> set[str]:
    """How a key of the logs may be written in the vocabulary."""
    try:
        number = Decimal(str(value))
        return {str(value), str(int(number))} if number == int(number) else {str(value)}
    except (InvalidOperation, ValueError, OverflowError):
        return {str(value)}


def require_sound(odd: OddLogs, store: Store, rows: int | None) -> None:
    """Rows add up, examples stand in the logs, and histories lie before the cutoff."""
    manifest = store.require("examples", DAY, "")
    funnel = manifest.facts["funnel"]
    examples = published(store, [manifest])
    refused = published(store, [store.require("quarantine", DAY, "")])
    assert rows in (None, sum(funnel["impressions"].values())), funnel
    assert len(examples) == funnel["impressions"]["good"], funnel
    found = Counter((row["source"], row["reason"]) for row in refused)
    assert found == {(s, r): n for s, by in funnel.items() for r, n in by.items() if r != "good"}
    assert all(row["raw"] for row in refused)
    assert not odd.keyed or len({row["example_id"] for row in examples}) == len(examples)
    start = start_of(DAY, odd.zone)
    cutoffs = [start if odd.cutoff == "day" else row["time"] for row in examples]
    require_in_logs(odd, store, examples)
    require_past(odd, examples, cutoffs)


def require_in_logs(odd: OddLogs, store: Store, examples: list[dict[str, Any]]) -> None:
    vocabulary = {
        (row["vocabulary"], row["id"]): row["key"]
        for row in published(store, store.manifests("vocabulary"))
    }
    pairs = {
        (user, item)
        for log in odd.impressions for row in log.rows
        for user in names_of(row.get("user")) for item in names_of(row.get("item"))
    }  # fmt: skip
    start, end = (start_of(DAY + timedelta(days=n), odd.zone) for n in (0, 1))
    for row in examples:
        assert (vocabulary["user", row["user"]], vocabulary["item", row["item"]]) in pairs
        assert row["label"] in (0, 1)
        assert start <= row["time"] < end
        assert 0 <= row.get("weight", 1) < float("inf")


def require_past(odd: OddLogs, examples: list[dict[str, Any]], cutoffs: list[int]) -> None:
    """Histories are the newest clicks before the cutoff, and nothing else where no log adds any."""
    shared: list[int] = []
    for row in examples:  # in the order of the files
        own = row["clicks__item"]
        shared = row["clicks__item"] = shared if own is None else own
    for row, cutoff in zip(examples, cutoffs, strict=True):
        clicks = {
            (each["time"], each["item"], each["category"])
            for each in examples
            if each["user"] == row["user"] and each["label"] == 1 and each["time"] < cutoff
        }
        length, newest = row["clicks__length"], sorted(clicks, reverse=True)
        assert length == sum(item != 0 for item in row["clicks__item"])
        if odd.behaviours:
            assert length >= min(LENGTH, len(clicks))
            continue
        assert length == min(LENGTH, len(clicks))
        if len(clicks) <= LENGTH:
            assert Counter(row["clicks__item"][:length]) == Counter(item for _, item, _ in newest)


def build(spark: SparkSession, odd: OddLogs, folder: Path) -> bool:
    """Build the date; return whether it was published."""
    rows = write(folder / f"impressions/{DAY}", odd.impressions, odd.format)
    write(folder / "behaviours", odd.behaviours, odd.format)
    write(folder / f"clicks/{DAY}", odd.clicks or [], odd.format)
    store, config = Store(f"{folder}/store"), BuildConfig(shards=1, max_broken=1.0)
    try:
        build_day(logs_of(spark, odd, folder), store, config, SplitConfig(), DAY)
    except Exception as error:
        require_one_line(error)
        return False
    require_sound(odd, store, rows)
    return True


def read(spark: SparkSession, odd: OddLogs, folder: Path) -> bool:
    """Read what a build reads; return whether all logs were read."""
    rows = write(folder / f"impressions/{DAY}", odd.impressions, odd.format)
    behaviours = write(folder / "behaviours", odd.behaviours, odd.format)
    write(folder / f"clicks/{DAY}", odd.clicks or [], odd.format)
    try:
        logs = logs_of(spark, odd, folder)
        marked = logs.impressions(DAY, DAY).collect()
        done = logs.behaviours(DAY, DAY).where("raw is not null or reason is null").count()
    except Exception as error:
        require_one_line(error)
        return False
    assert rows in (None, len(marked))
    assert None in (rows, behaviours) or done <= rows + behaviours
    for row in marked:
        assert (row["reason"] is None) == (row["raw"] is None)
        assert row["reason"] or None not in (row["user"], row["item"], row["time"], row["label"])
    return True


LONG = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]
READS = pytest.mark.parametrize("cases", [3, pytest.param(2000, marks=LONG)])
BUILDS = pytest.mark.parametrize("cases", [pytest.param(100, marks=LONG)])


@READS
def test_rows_of_random_logs_are_good_or_broken_or_refused_with_one_line(
    spark, tmp_path_factory, cases
):
    @profile(cases, shrink=False)
    @given(odd_logs())
    def check(odd: OddLogs) -> None:
        read(spark, odd, tmp_path_factory.mktemp("odd"))

    check()


@BUILDS
def test_random_logs_add_up_or_are_refused_with_one_line(spark, tmp_path_factory, cases):
    @profile(cases, shrink=False)
    @given(odd_logs())
    def check(odd: OddLogs) -> None:
        build(spark, odd, tmp_path_factory.mktemp("odd"))

    check()
