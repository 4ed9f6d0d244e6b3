"""Candidates meet the state on Spark: users split over tasks, users nobody knows, other ways in."""

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.registry import artifact
from pipelines.scoring import scorer as scoring
from pipelines.scoring.scorer import (
    Night,
    count_candidates,
    encode_candidates,
    restore_keys,
    score,
)
from pipelines.scoring.udf import GROUP, Task
from pipelines.shipping import ship
from tests.pipelines.scoring.test_udf import CUTOFF, FACTS, SPEC, model

DAY = "2026-11-22"
Scores = dict[tuple[str, int], tuple]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    artifact.save(place, model(), FACTS)
    return place


@pytest.fixture(scope="module")
def vocabulary(spark: SparkSession) -> DataFrame:
    keys = [("user", f"u{n}", n + 2) for n in range(6)]
    keys += [("item", str(n), n) for n in range(2, 40)]
    keys += [("tags", f"t{n}", n) for n in range(2, 9)]
    return spark.createDataFrame(keys, "vocabulary string, key string, id int").coalesce(1)


@pytest.fixture(scope="module")
def state(spark: SparkSession) -> DataFrame:
    rng, rows = np.random.default_rng(0), []
    for user in range(6):
        row: list[object] = [user + 2]
        for _ in SPEC.histories:
            times = np.sort(CUTOFF - rng.integers(-5, 60, 7) * 10**6)
            row += [times.tolist(), rng.integers(2, 40, 7).tolist()]
        rows.append(tuple(row))
    kinds = [f"{h.kind}__time array<long>, {h.kind}__item array<int>" for h in SPEC.histories]
    return spark.createDataFrame(rows, f"user int, {', '.join(kinds)}")


@pytest.fixture(scope="module")
def candidates(spark: SparkSession) -> DataFrame:
    """Six known users and two that nobody knows, 30 candidates each, some of items never seen."""
    rows = spark.range(8).crossJoin(spark.range(30).withColumnRenamed("id", "n"))
    tags = F.array(F.concat(F.lit("t"), F.pmod("n", F.lit(9))), F.lit("t3"))
    return rows.select(
        F.concat(F.lit("u"), "id").alias("user"), (F.col("n") * 2).cast("string").alias("item"),
        F.when(F.col("n") % 3 > 0, tags).alias("tags"),
    )  # fmt: skip


def scored(
    candidates: DataFrame, state: DataFrame, vocabulary: DataFrame, folder: Path, **task: int
) -> tuple[Scores, DataFrame]:
    rows = encode_candidates(candidates, SPEC, vocabulary)
    sizes = rows.groupBy(GROUP).agg(F.count("*").alias("good"))
    night = Night(SPEC, ship(candidates.sparkSession, folder), Task(CUTOFF, **task))
    table = restore_keys(score(rows, sizes, state, night), SPEC, vocabulary)
    rows = table.withColumn("task", F.spark_partition_id()).collect()
    found = {(r["user"], r["item"]): tuple(r)[2:-1] for r in rows}
    assert len(found) == len(rows)
    return found, table


def test_users_split_over_tasks_have_the_same_scores_and_ranks(
    candidates, state, vocabulary, folder, monkeypatch
):
    whole, table = scored(candidates, state, vocabulary, folder, explain=2)
    assert len(whole) == 240
    assert table.schema["item"].dataType.typeName() == "long"
    monkeypatch.setattr(scoring, "LARGEST", 7)
    split, table = scored(candidates, state, vocabulary, folder, explain=2)
    assert split.keys() == whole.keys()
    for key, (one, _, *others, because) in whole.items():
        again, _, *same, told = split[key]
        assert abs(again - one) < 1e-6
        assert same == others
        assert [w["item"] for w in told or ()] == [w["item"] for w in because or ()]
    for rows in (whole, split):  # what is equal but for rounding may change places
        for user in {key[0] for key in rows}:
            mine = sorted((-s[0], str(item), s[1]) for (u, item), s in rows.items() if u == user)
            assert [rank for *_, rank in mine] == [*range(1, 31)]
    best, _ = scored(candidates, state, vocabulary, folder, top=5)
    assert {r[1] for r in best.values()} == {1, 2, 3, 4, 5}
    assert len(best) == 40


def test_scores_with_explanations_are_computed_once(candidates, state, vocabulary, folder, capsys):
    plain, _ = scored(candidates, state, vocabulary, folder)
    explained, table = scored(candidates, state, vocabulary, folder, explain=2)
    assert explained.keys() == plain.keys()
    for key, (value, _, *others, _) in explained.items():
        assert value == pytest.approx(plain[key][0], abs=1e-6)
        assert others == [*plain[key][2:]]
    assert any(told for *_, told in explained.values())
    assert any(told is None for *_, told in explained.values()), "unknown users have no history"
    table.explain()
    assert capsys.readouterr().out.count("MapInArrow") == 1


def test_a_user_with_many_candidates_is_split_into_groups(
    candidates, state, vocabulary, folder, monkeypatch
):
    seen = []
    sweep = scoring._sweep

    def watched(rows: DataFrame, states: DataFrame, night: Night) -> DataFrame:
        seen.append(rows.groupBy("user_key", GROUP).count().collect())
        return sweep(rows, states, night)

    monkeypatch.setattr(scoring, "LARGEST", 7)
    monkeypatch.setattr(scoring, "_sweep", watched)
    scored(candidates, state, vocabulary, folder)
    usual, split = seen
    assert usual == []
    assert len({r["user_key"] for r in split}) == 8
    assert all(sum(r["user_key"] == f"u{n}" for r in split) > 2 for n in range(8))


def test_candidates_of_unknown_users_are_ranked_per_user(candidates, state, vocabulary, folder):
    rows, _ = scored(candidates, state, vocabulary, folder)
    for user in ("u6", "u7"):
        mine = [r for (u, _), r in rows.items() if u == user]
        assert sorted(r[1] for r in mine) == [*range(1, 31)]
        assert all(length == 0 and unknown for _, _, length, unknown, _ in mine)
    assert all(r[4] == (item not in range(2, 40)) for (_, item), r in rows.items()), (
        "items never seen are told"
    )
    assert {r[2] for (u, _), r in rows.items() if u == "u0"} != {0}


def test_unknown_users_have_different_groups(candidates, vocabulary):
    groups = (
        encode_candidates(candidates, SPEC, vocabulary)
        .select("user_key", GROUP)
        .distinct()
        .collect()
    )
    assert len(groups) == len({row[GROUP] for row in groups}) == 8


def test_candidates_duplicated_by_a_join_are_refused_with_both_numbers(candidates, vocabulary):
    doubled = vocabulary.union(vocabulary.where("key = 'u1'"))
    marked = candidates.withColumn("reason", F.lit(None).cast("string"))
    rows = encode_candidates(marked, SPEC, doubled)
    with pytest.raises(InputError, match="240 candidates are given, but 270 are encoded"):
        count_candidates(rows, 240, None)
