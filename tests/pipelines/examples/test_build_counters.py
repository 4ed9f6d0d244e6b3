"""A build with counters: a chain of days, a cold build, a replay, and what each pins."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from din_model.errors import InputError
from pipelines.erasure import erase
from pipelines.examples.build import build_day
from pipelines.examples.origin import is_built, is_current
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.ingest.logs import Logs
from pipelines.scoring.skew_check import replay
from pipelines.spec import CounterConfig, HistoryConfig, KindConfig, feature_spec
from pipelines.store.store import Store
from tests.nights import rows as rows_of
from tests.pipelines.examples.test_build import DAY, FEATURES, NEXT, impressions, logs_of

LAST = NEXT + timedelta(days=1)
BY_DATE, CONFIG = SplitConfig(), BuildConfig()
COUNTED = {
    "shown": CounterConfig(("item",), windows=("1d", "all")),
    "pair": CounterConfig(("user", "item"), windows=("all",)),
    "clicked": CounterConfig(("item",), events="clicks", windows=("2d",)),
}
ROWS = [
    row | {"id": f"{row['id']} {day}", "at": row["at"].replace(str(DAY), str(day))}
    for row in impressions(80)
    for day in (DAY, NEXT, LAST)
]


def counting(spark: SparkSession, folder: Path) -> Logs:
    logs = logs_of(spark, folder, ROWS)
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, "day", length=5)
    return replace(logs, spec=feature_spec(replace(FEATURES, counters=COUNTED), history))


@pytest.fixture(scope="module")
def chain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Logs, Store]:
    """Three days, built one by one."""
    folder = tmp_path_factory.mktemp("chain")
    logs, store = counting(spark, folder), Store(str(folder / "store"))
    for day in (DAY, NEXT, LAST):
        build_day(logs, store, CONFIG, BY_DATE, day)
    return logs, store


def read(logs: Logs, store: Store, name: str, day: date):
    return store.read(logs.spark, [store.require(name, day, "")])


def test_examples_hold_what_happened_on_the_days_before(chain):
    logs, store = chain
    assert read(logs, store, "examples", DAY).where("shown__events_all > 0").isEmpty()
    found = read(logs, store, "examples", LAST).toPandas()
    assert len(found) == 80
    item = {n: 2**53 + n % 17 for n in range(80)}
    shown = sorted(sum(item[k] == item[n] for k in range(80)) for n in range(80))
    clicks = sorted(sum(item[k] == item[n] and k % 5 == 0 for k in range(80)) for n in range(80))
    assert sorted(found.shown__events_1d) == shown
    assert sorted(found.shown__events_all) == [2 * count for count in shown]
    assert sorted(found.shown__clicks_1d) == clicks
    assert sorted(found.clicked__events_2d) == [2 * count for count in clicks]
    assert found.pair__last.min() > 0


def test_a_cold_build_equals_the_chain(chain, tmp_path):
    logs, store = chain
    cold = Store(str(tmp_path / "store"))
    build_day(logs, cold, CONFIG, BY_DATE, LAST)
    for name in ("counters", "examples", "state", "counts"):
        assert rows_of(read(logs, cold, name, LAST)) == rows_of(read(logs, store, name, LAST))
    vocabularies = [open_vocabulary(logs.spark, each)[0] for each in (store, cold)]
    assert rows_of(vocabularies[0]) == rows_of(vocabularies[1])


@pytest.mark.slow
def test_a_chain_skips_a_lost_date_like_a_cold_build(spark, tmp_path):
    for day in (DAY, LAST):
        put = tmp_path / f"logs/{day}"
        put.mkdir(parents=True)
        lines = [json.dumps(row) for row in ROWS if str(day) in row["at"]]
        (put / "log.json").write_text("\n".join(lines))
    logs = replace(counting(spark, tmp_path), since=DAY)
    dated = replace(logs.sources.impressions, path=f"{tmp_path}/logs/{{date}}")
    sources = replace(logs.sources, impressions=dated)
    chain, cold = Store(str(tmp_path / "chain")), Store(str(tmp_path / "cold"))
    build_day(replace(logs, sources=sources), chain, CONFIG, BY_DATE, DAY)
    with pytest.raises(InputError, match=r"no data for 2026-11-21: .* sources\.lost_dates"):
        build_day(replace(logs, sources=sources), chain, CONFIG, BY_DATE, LAST)
    logs = replace(logs, sources=replace(sources, lost_dates=(NEXT,)))
    for store in (chain, cold):
        build_day(logs, store, CONFIG, BY_DATE, LAST)
    for name in ("counters", "examples", "state"):
        assert rows_of(read(logs, cold, name, LAST)) == rows_of(read(logs, chain, name, LAST))


def test_a_replay_gives_the_counters_of_the_examples(chain):
    logs, store = chain
    assert replay(logs, store, LAST) == 80


def test_a_day_whose_counters_alone_were_replaced_is_stale(chain, tmp_path):
    logs, store = chain
    copy = Store(str(shutil.copytree(store.base, tmp_path / "store")))
    assert is_current(logs, copy, CONFIG, BY_DATE, LAST)
    sums = copy.require("counters", NEXT, "")
    copy.publish("counters", NEXT, copy.read(logs.spark, [sums]), sums.facts)
    assert not is_built(copy, NEXT)
    assert is_built(copy, LAST)
    assert not is_current(logs, copy, CONFIG, BY_DATE, LAST)


def test_an_erased_user_is_in_no_counter_of_users(chain, tmp_path):
    logs, store = chain
    copy = Store(str(shutil.copytree(store.base, tmp_path / "store")))
    before = read(logs, copy, "counters", LAST)
    of_user = before.where("counter = 1 and key_0 = 2")
    others, count = rows_of(before.subtract(of_user)), of_user.count()
    removed = erase(logs.spark, copy, CONFIG, ["u0"])
    assert removed["counters"] > count > 0
    assert rows_of(read(logs, copy, "counters", LAST)) == others
    assert is_built(copy, LAST)


def test_held_out_last_positions_are_in_no_counter(spark, tmp_path):
    shown = [row | {"clicked": 1, "user": f"u{n // 10}"} for n, row in enumerate(impressions(40))]
    logs = logs_of(spark, tmp_path, shown, cutoff="impression")
    history = HistoryConfig({"clicks": KindConfig({"item": "item"})}, "impression", length=5)
    counted = {"seen": CounterConfig(("user",), windows=("all",))}
    logs = replace(logs, spec=feature_spec(replace(FEATURES, counters=counted), history))
    store, split = Store(str(tmp_path / "store")), SplitConfig(by="last_position")
    build_day(logs, store, CONFIG, split, DAY)
    # Of ten positives a user, the first has no past and the last is held out.
    assert [r["events"] for r in read(logs, store, "counters", DAY).collect()] == [8] * 4
    held_out = read(logs, store, "holdout", DAY).collect()
    assert [row["seen__events_all"] for row in held_out] == [8] * 4
    examples = read(logs, store, "examples", DAY).collect()
    assert sorted(row["seen__events_all"] for row in examples) == sorted([*range(8)] * 4)
