"""Drawn items are never touched ones, follow what was asked for, and stay as they were drawn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from pipelines.examples.build import build_day
from pipelines.examples.data_quality import QualityConfig
from pipelines.examples.negatives import NegativesConfig, sample_negatives
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.store.store import Store
from tests.pipelines.examples.test_build import DAY, NEXT, impressions, logs_of
from tests.pipelines.ingest.test_attribution import SPEC

COLUMNS = "example_id long, user int, item int, label double, cutoff long"


def drawn(spark, positives: list[tuple], touched: list[tuple], config: NegativesConfig, items: int):
    rows = spark.createDataFrame(positives, COLUMNS)
    seen = spark.createDataFrame(touched, "user int, item int")
    return sample_negatives(rows, seen, SPEC, config, items).collect()


@pytest.mark.parametrize("power", [0.75, 1.0])
def test_popular_items_are_drawn_by_their_clicks(spark, power):
    clicks = {2: 400, 3: 100, 4: 25, 5: 5}
    items = np.repeat(list(clicks), list(clicks.values()))
    # Each click is a user's own, who touched nothing else than item 9.
    positives = [(n * 7919, n, int(item), 1.0, 0) for n, item in enumerate(items)]
    touched = [(n, 9) for n in range(len(items))]
    config = NegativesConfig(per_positive=4, by="popularity", power=power)
    found = Counter(row["item"] for row in drawn(spark, positives, touched, config, 10))
    weights = np.array([n**power for n in clicks.values()])
    expected = weights / weights.sum() * len(items) * 4
    assert chisquare([found[item] for item in clicks], expected).pvalue > 1e-4
    odds = [np.log(n / found[item]) for item, n in clicks.items()]
    slope = np.polyfit(np.log(list(clicks.values())), odds, 1)[0]
    assert slope == pytest.approx(config.popularity_weight, abs=0.1)
    even = replace(config, by="uniform")
    assert even.popularity_weight == 1
    found = Counter(row["item"] for row in drawn(spark, positives, touched, even, 10))
    assert set(found) == set(range(2, 9)), "all items known, but for the touched one"
    assert chisquare(list(found.values())).pvalue > 1e-4


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_sampled_negatives_exclude_touched_items_and_repeat(spark, by):
    rng = np.random.default_rng(5)
    touched = sorted({(int(u), int(i)) for u, i in rng.integers(2, 12, (60, 2))})
    positives = [(n, u, i, 1.0, 0) for n, (u, i) in enumerate(touched)]
    config = NegativesConfig(per_positive=3, by=by)
    first = drawn(spark, positives, touched, config, 14)
    assert len(first) == 3 * len(positives)
    assert {(row["user"], row["item"]) for row in first}.isdisjoint(touched)
    again = drawn(spark, positives[::-1], touched[::-1], config, 14)
    assert sorted(map(str, first)) == sorted(map(str, again))


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_a_user_who_touched_almost_every_item_gets_the_others(spark, by):
    clicks = [(n, 1, n + 2, 1.0, 0) for n in range(998)]
    touched = [(1, item) for _, _, item, *_ in clicks]
    left = [(n, 2, n + 2, 1.0, 0) for n in (998, 999)]
    found = drawn(spark, clicks + left, touched, NegativesConfig(by=by), 1002)
    of_user = Counter(row["item"] for row in found if row["user"] == 1)
    assert set(of_user) == {1000, 1001}
    assert chisquare(list(of_user.values())).pvalue > 1e-4


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_a_user_who_touched_every_item_is_named(spark, by):
    touched = [(7, item) for item in range(2, 8)]
    with pytest.raises(Exception, match=r"the user with id 7 in the vocabulary has touched every"):
        drawn(spark, [(1, 7, 2, 1.0, 0)], touched, NegativesConfig(by=by), 8)


@pytest.mark.slow
def test_building_an_old_day_again_draws_the_same_items(spark, tmp_path):
    clicked = [
        row | {"clicked": 1, "item": n // 40 * 5 + n % 4} for n, row in enumerate(impressions(60))
    ]
    later = [
        row | {"id": f"n{row['id']}", "at": f"{NEXT} 12:00:00", "item": row["item"] + 100}
        for row in clicked
    ]
    logs = logs_of(spark, tmp_path, [*clicked, *later], cutoff="impression")
    store, quality = Store(str(tmp_path / "store")), QualityConfig(change={})
    config = BuildConfig(shards=1, negatives=NegativesConfig(), quality=quality)

    def content(day) -> str:
        build_day(logs, store, config, SplitConfig(), day)
        return store.require("counts", day, "").facts["content"]

    first = content(DAY)
    content(NEXT)
    assert content(DAY) == first, "items first seen on the next day must not come out"
