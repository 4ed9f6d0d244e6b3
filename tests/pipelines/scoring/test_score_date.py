"""The last date of three nights, scored again with other settings in a copy of their store."""

import gzip
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import mlflow
import pytest
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.registry import tracking
from pipelines.erasure import erase
from pipelines.ingest.delta_tables import table_rows
from pipelines.ingest.sources import Source
from pipelines.scoring import score_date
from pipelines.scoring.candidates import CandidatesConfig
from pipelines.scoring.guards import GuardsConfig
from pipelines.scoring.score_date import ModelVersion, score_day
from pipelines.sinks.redis import RedisConfig
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from tests.nights import NIGHTS, rows

pytest_plugins = "tests.redis_server"

DAY = NIGHTS[-1] + timedelta(days=1)


@pytest.fixture
def copy(nights, tmp_path) -> Store:
    _, store, _ = nights
    ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    return Store(str(shutil.copytree(store.base, tmp_path / "store", ignore=ignored)))


def scored(
    nights: Any, copy: Store, rules: CandidatesConfig | None = None, candidates: str = "",
    **changes: Any,
) -> Manifest:  # fmt: skip
    """Score the day with the last champion and changed settings.

    Args:
        nights: the fixture.
        copy: where scores are published.
        rules: replace the table of candidates.
        candidates: path of another table of candidates.
        changes: of the section ``score``.
    """
    settings, original, champions = nights
    logs, _ = settings.open("tests", NIGHTS[-1])
    if rules:
        logs = replace(logs, sources=replace(logs.sources, candidates=None))
    if candidates:
        source = replace(logs.sources.candidates, path=candidates)
        logs = replace(logs, sources=replace(logs.sources, candidates=source))
    tracking.connect(settings.tracking, original.url)
    with tracking.run("again", {}, {}):
        config = replace(settings.score, **changes)
        name = settings.tracking.model
        return score_day(logs, copy, ModelVersion(name, champions[-1]), config, DAY, rules)


def last_run() -> Any:
    return mlflow.search_runs(max_results=1, output_format="list")[0]


def test_a_table_of_scores_records_its_measurements(nights):
    _, store, _ = nights
    first, *_, last = store.manifests("scores")
    numbers = ("mean_score", "coverage", "without_history", "unknown_users", "unknown_items")
    assert all(0 <= last.facts[name] <= 1 for name in numbers)
    assert sum(last.facts["histogram"]) == last.rows
    assert last.facts["drift"] >= 0
    assert "drift" not in first.facts
    assert last.facts["drift_from_validation"] >= 0
    assert 0 < last.facts["clicks"] <= last.facts["shown"], "some candidates were shown"


def test_a_breach_keeps_the_published_table_and_logs_the_numbers(nights, copy):
    before = copy.manifest("scores", DAY)
    found = sorted(Path(copy.base, "scores").rglob("*.parquet"))
    limits = GuardsConfig(max_without_history=-0.1)
    with pytest.raises(InputError, match=r"held back.*without_history 0\.\d+ is above"):
        scored(nights, copy, explain=1, guards=limits)
    assert copy.manifest("scores", DAY) == before
    assert sorted(Path(copy.base, "scores").rglob("*.parquet")) == found
    assert last_run().data.metrics["without_history"] == before.facts["without_history"]


def test_only_tables_of_one_version_are_held_back_by_their_drift(nights, copy):
    settings, original, champions = nights
    *_, before, _ = [m.facts["version"] for m in copy.manifests("scores")]
    assert before != champions[-1]
    guards = GuardsConfig(max_drift=0)
    assert scored(nights, copy, explain=1, guards=guards).facts["drift"] > 0
    with pytest.raises(InputError, match=r"held back.*drift .* \(version \d+ scored both"):
        scored((settings, original, [before]), copy, explain=1, guards=guards)


def test_top_publishes_each_users_best_and_counts_the_others(spark, nights, copy):
    every = copy.read(spark, [copy.manifest("scores", DAY)])
    columns = ["user_id", "item_id", "rank"]
    best, below = rows(every.where("rank <= 3").select(columns)), every.where("rank > 3").count()
    manifest = scored(nights, copy, top=3)
    assert rows(copy.read(spark, [manifest]).select(columns)) == best
    assert manifest.facts["below_top"] == below > 0
    refused, candidates = manifest.facts["refused"], manifest.facts["candidates"]
    assert manifest.rows + below + refused == candidates


def test_scores_of_an_earlier_moment_rest_on_what_was_published_then(spark, nights, copy):
    then = datetime.now(UTC).isoformat()
    state = copy.require("state", NIGHTS[-1], "")
    copy.publish("state", NIGHTS[-1], copy.read(spark, [state]).where("false"), state.facts)
    without = scored(nights, copy, guards=GuardsConfig(max_without_history=1))
    assert without.facts["without_history"] == 1
    again = scored(nights, copy, as_of=then)
    assert again.facts["pins"]["state"] == [state.id]
    before = nights[1].manifest("scores", DAY)
    assert rows(copy.read(spark, [again])) == rows(copy.read(spark, [before]))


def test_a_shadow_scores_the_same_candidates_into_its_own_table(spark, nights, copy, monkeypatch):
    loads = []
    load = score_date.load_vectors
    monkeypatch.setattr(
        score_date, "load_vectors", lambda *inputs: loads.append(inputs) or load(*inputs)
    )
    _, _, champions = nights
    plain = scored(nights, copy, explain=0)
    before = rows(copy.read(spark, [plain]))
    loads.clear()
    manifest = scored(nights, copy, explain=0, top=50, shadow=str(champions[-1]))
    assert len(loads) == 1, "the shadow uses the vectors of the model"
    assert rows(copy.read(spark, [manifest])) == before
    shadow = copy.manifest("shadow", DAY)
    assert shadow.rows == manifest.rows
    assert shadow.facts["pins"] == {"scores": [manifest.id]}
    metrics = last_run().data.metrics
    assert metrics["shadow_overlap"] == metrics["shadow_same_first"] == 1, "the same version"
    assert metrics["shadow_score_change"] == 0
    assert last_run().data.params["version"] == str(champions[-1])


def test_scores_are_delivered_also_when_already_published(spark, nights, copy, tmp_path):
    sinks = {"table": "nightly_scores", "delta": f"{tmp_path}/delivered"}

    def delivered() -> list[list[str]]:
        tables = [spark.table("nightly_scores"), table_rows(spark, sinks["delta"], {})]
        found = [rows(each.select(columns)) for each in tables]
        spark.sql("DROP TABLE nightly_scores")
        shutil.rmtree(sinks["delta"])
        return found

    spark.sql("DROP TABLE IF EXISTS nightly_scores")
    manifest = scored(nights, copy, **sinks)
    columns = copy.read(spark, [manifest]).columns
    want = rows(copy.read(spark, [manifest]))
    assert delivered() == [want, want]
    assert scored(nights, copy, **sinks) == manifest
    assert delivered() == [want, want]


def test_redis_holds_the_published_scores_and_no_erased_user_once_delivered_again(
    spark, nights, copy, redis_reader
):
    settings, *_ = nights
    config = RedisConfig("${REDIS_URL}")

    def delivered() -> dict[str, list[tuple[str, float]]]:
        start = f"din:{json.loads(redis_reader.get('din:current'))['run']}:"
        keys = list(redis_reader.scan_iter(f"{start}*"))
        found = {key: json.loads(redis_reader.get(key)) for key in keys}
        return {
            key.removeprefix(start): [(each["item"], each["score"]) for each in value["items"]]
            for key, value in found.items()
        }

    def scores(manifest: Manifest) -> dict[str, list[tuple[str, float]]]:
        ranked = copy.read(spark, [manifest]).where("rank <= 100").orderBy("user_id", "rank")
        by_user = groupby(ranked.collect(), lambda row: row["user_id"])
        return {user: [(r["item_id"], r["score"]) for r in rows] for user, rows in by_user}

    published = scored(nights, copy, redis=config)
    want = scores(published)
    assert delivered() == want
    erased, *others = want
    erase(spark, copy, settings.build, [erased])
    assert scored(nights, copy, redis=config).id == published.id
    assert delivered() == {user: want[user] for user in others}


@pytest.mark.slow
def test_candidates_generated_by_rules_are_scored(spark, nights, copy):
    rules = CandidatesConfig(popular=4, of_categories=3, by="category", new=2, exclude_seen=True)
    manifest = scored(nights, copy, rules)
    table = copy.read(spark, [manifest])
    each = table.groupBy("user_id").agg(F.count("*").alias("n"), F.max("rank").alias("last"))
    assert each.where("n > 9 or n != last").count() == 0
    assert each.count() > 50
    assert manifest.facts["rules"]["popular"] == 4
    assert manifest.facts["refused"] == 0
    assert scored(nights, copy, rules) == manifest, "published already"
    other = replace(rules, popular=5)
    assert scored(nights, copy, other).rows > manifest.rows


def test_a_changed_table_of_candidates_is_scored_again(spark, nights, copy, tmp_path):
    settings, _, _ = nights
    place = f"{tmp_path}/candidates/date={DAY}"
    table = spark.read.parquet(f"{settings.generate.path}/candidates/date={DAY}")
    table.write.parquet(place)
    first = scored(nights, copy, candidates=place)
    assert scored(nights, copy, candidates=place) == first, "published already"
    table.limit(first.rows - 2).write.mode("overwrite").parquet(place)
    again = scored(nights, copy, candidates=place)
    assert (again.rows, copy.manifest("scores", DAY)) == (first.rows - 2, again)


def test_candidates_that_are_cut_off_are_named_and_nothing_is_published(nights, tmp_path):
    settings, store, champions = nights
    day = NIGHTS[-1] + timedelta(days=1)
    text = "user_id,item_id\n" + "".join(f"u{n},{n * 7919 % 10007}\n" for n in range(5000))
    whole = gzip.compress(text.encode())
    (tmp_path / "c.csv.gz").write_bytes(whole[: len(whole) // 2])
    logs, _ = settings.open("tests", NIGHTS[-1])
    source = Source(
        path=f"{tmp_path}/c.csv.gz", format="csv", options={"header": "true"},
        schema="user_id string, item_id bigint",
    )  # fmt: skip
    logs = replace(logs, sources=replace(logs.sources, candidates=source))
    before = store.manifest("scores", day)
    version = ModelVersion(settings.tracking.model, champions[-1])
    with pytest.raises(InputError, match=r"c\.csv\.gz: cannot be read .*replace the file"):
        score_day(logs, store, version, settings.score, day)
    assert store.manifest("scores", day) == before
