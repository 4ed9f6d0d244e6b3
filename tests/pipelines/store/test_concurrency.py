"""Two processes publish the same dates at the same moment, and readers read meanwhile."""

import subprocess
import sys
import threading
from datetime import timedelta

import polars as pl
import pytest

from pipelines.store.store import Store
from tests.nights import environment
from tests.pipelines.store.rival import FIRST
from tests.s3 import s3_server

PAIRS = 20
NAMES = ("one", "seven")


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path, monkeypatch):
    if request.param == "disk":
        yield f"{tmp_path}/store"
        return
    with s3_server(monkeypatch) as bucket:
        yield f"{bucket}/published"


@pytest.mark.slow
def test_of_two_writers_of_a_date_exactly_one_publishes(root, tmp_path):
    command = [sys.executable, "-m", "tests.pipelines.store.rival", root, str(tmp_path)]
    rivals = [
        subprocess.Popen(
            [*command, *names, str(PAIRS)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        for names in (NAMES, NAMES[::-1])
    ]
    outcomes = [rival.communicate(timeout=400)[0].splitlines() for rival in rivals]
    assert [len(lines) for lines in outcomes] == [PAIRS, PAIRS]
    store = Store(root)
    for number, pair in enumerate(zip(*outcomes, strict=True)):
        winner, loser = NAMES if pair[0] == "won" else NAMES[::-1]
        assert "won" in pair
        assert "scores: another job published it while this one ran" in max(pair, key=len)
        manifest = store.manifest("scores", FIRST + timedelta(days=number))
        assert (manifest.facts["by"], manifest.rows) == (winner, len(winner))
        assert manifest.rows != len(loser)


@pytest.mark.slow
def test_readers_find_one_whole_run_while_it_is_published_again_and_again(spark, tmp_path):
    store, day = Store(str(tmp_path)), FIRST
    store.publish("scores", day, spark.range(0, 1000, 1, 4), {})
    over, found = threading.Event(), {"polars": [], "spark": []}

    def by_polars() -> None:
        while not over.is_set():
            read = pl.read_delta(f"{tmp_path}/scores")
            found["polars"].append((read["run"].n_unique(), len(read), read["id"].min()))

    def by_spark() -> None:
        own = Store(str(tmp_path))
        while not over.is_set():
            manifest = own.require("scores", day, "")
            row = own.read(spark, [manifest]).selectExpr("count(*)", "min(id)").first()
            found["spark"].append((1, *row))

    readers = [threading.Thread(target=each) for each in (by_polars, by_spark)]
    [reader.start() for reader in readers]
    for number in range(1, 21):
        rows = spark.range(number * 1000, number * 2000, 1, 4)
        store.publish("scores", day, rows, {})
    over.set()
    [reader.join() for reader in readers]
    expected = {(1, 1000 * n, 1000 * n) for n in range(1, 21)} | {(1, 1000, 0)}
    for name, reads in found.items():
        assert len(reads) >= 5, name
        assert set(reads) <= expected, name
