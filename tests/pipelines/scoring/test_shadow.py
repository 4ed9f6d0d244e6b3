"""How two versions rank the same candidates."""

import pytest

from pipelines.scoring.shadow import compare_rankings


def test_two_rankings_are_compared_per_user_and_averaged(spark):
    def table(scores: dict[str, list[float]]) -> object:
        rows = []
        for user, each in scores.items():
            order = sorted(range(len(each)), key=lambda n: -each[n])
            rows += [(user, n, each[n], order.index(n) + 1) for n in range(len(each))]
        return spark.createDataFrame(rows, "user string, item int, score double, rank int")

    rising = [n / 20 for n in range(20)]
    ours = table({"same": rising, "reversed": rising, "alone": [0.5]})
    same = compare_rankings(ours, ours, ["user", "item"])
    assert same == {"overlap": 1, "same_first": 1, "rank_correlation": 1, "score_change": 0}
    theirs = table({"same": rising, "reversed": rising[::-1], "alone": [0.75]})
    found = compare_rankings(ours, theirs, ["user", "item"])
    assert found["overlap"] == pytest.approx(2 / 3), "no common item among the best ten of one"
    assert found["same_first"] == pytest.approx(2 / 3)
    assert found["rank_correlation"] == pytest.approx(0, abs=1e-9), "1 and -1; alone has none"
    change = sum(abs(2 * n - 19) / 20 for n in range(20)) + 0.25
    assert found["score_change"] == pytest.approx(change / 41)
