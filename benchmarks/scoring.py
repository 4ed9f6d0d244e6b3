"""Measure scoring: the job, MLflow's UDF, and the scoring function alone as the upper limit.

    python -m benchmarks.scoring [--users 20000] [--candidates 100] [--rounds 3] [--grow]

(a) The job: read candidates and state from Parquet, encode, score, rank, check and publish.
(b) mlflow.pyfunc.spark_udf with the same registered model, Parquet to Parquet, on rows that are
encoded already and carry their history.
(c) The upper limit: the function of the scoring UDF on Arrow batches in memory, in one process that
uses all cores.

All histories have 50 behaviours. Sessions and models are started before the clock. Every round runs
all three. The last line is JSON: rows per second and ratios, medians over the rounds.

--grow measures the job only, on the candidates and on ten times as many: seconds, and the peak
memory of a worker.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.memory import peak_mb_of_workers
from benchmarks.training import CATEGORIES, LENGTH, SPEC, trainer_of
from din_model.distributed.malloc import keep_freed_blocks
from din_model.features import FIRST_ID
from din_model.registry import artifact, tracking, versions
from din_model.registry.tracking import TrackingConfig
from pipelines.ingest.logs import Logs
from pipelines.ingest.sources import Source, SourcesConfig, start_of
from pipelines.scoring.score_date import ModelVersion, ScoreConfig, score_day
from pipelines.scoring.udf import GROUP, IS_STATE, ITEM, USER, Task, score_batches
from pipelines.session import spark_session
from pipelines.store.data_sets import SCORES
from pipelines.store.store import Store

DAY = date(2026, 11, 22)
ITEMS, MODEL, BATCH = 100_000, "din-benchmark", 10_000
WARM_UP = 200
"""Users of the first, unmeasured run."""

Arrays = dict[str, NDArray[Any]]


def draw(users: int, candidates: int) -> tuple[Arrays, Arrays]:
    """Ids of each user's candidates, user by user, and of their histories [users, LENGTH]."""
    rng = np.random.default_rng(7)
    past = rng.integers(0, ITEMS, (users, LENGTH))
    # Steps that ITEMS is no multiple of: no user is offered an item twice.
    item = (rng.integers(0, ITEMS, (users, 1)) + 997 * np.arange(candidates)).ravel() % ITEMS
    user = np.arange(users).repeat(candidates)
    of = {"user": user, "item": item, "category": item % CATEGORIES}
    history = {"item": past, "category": past % CATEGORIES}
    return (*({name: v + FIRST_ID for name, v in each.items()} for each in (of, history)),)  # type: ignore[return-value]


def lists(values: NDArray[Any]) -> pa.Array:
    """Convert [rows, length] to lists."""
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def state_of(history: Arrays) -> pa.Table:
    """The state at the end of the day before ``DAY``."""
    users, end = len(history["item"]), start_of(DAY, "UTC")
    times = end - 60_000_000 * np.arange(LENGTH, 0, -1, dtype=np.int64)
    columns = {"user": pa.array(np.arange(users, dtype=np.int32) + FIRST_ID)}
    columns["clicks__time"] = lists(np.broadcast_to(times, (users, LENGTH)).copy())
    for name, ids in history.items():
        columns[f"clicks__{name}"] = lists(ids.astype(np.int32))
    return pa.table(columns)


def publish(spark: SparkSession, store: Store, history: Arrays, folder: Path) -> None:
    """Publish what scoring reads from the store: vocabulary and state."""
    sizes = {"user": len(history["item"]), "item": ITEMS, "category": CATEGORIES}
    keys = [
        spark.range(size).selectExpr(
            f"'{name}' vocabulary", "cast(id as string) key", f"cast(id + {FIRST_ID} as int) id"
        )
        for name, size in sizes.items()
    ]
    following = {"next_id": {name: size + FIRST_ID for name, size in sizes.items()}}
    union = keys[0].union(keys[1]).union(keys[2])
    store.publish("vocabulary", DAY - timedelta(1), union, following)
    pq.write_table(state_of(history), folder / "state.parquet")
    state = spark.read.parquet(str(folder / "state.parquet"))
    store.publish("state", DAY - timedelta(1), state, {})


def write(
    of: Arrays, history: Arrays, folder: Path, users: int, carried: bool = True
) -> tuple[Path, Path]:
    """Write the candidates of the first users twice: by key, and encoded with their histories."""
    plain, whole = folder / f"candidates-{users}", folder / f"rows-{users}"
    for place in (plain, whole):
        place.mkdir()
    each = int((of["user"] == FIRST_ID).sum())
    for part, some in enumerate(np.array_split(np.arange(users), 8)):
        rows = slice(some[0] * each, (some[-1] + 1) * each)
        mine = {name: ids[rows] for name, ids in of.items()}
        keys = {name: pa.array(ids - FIRST_ID) for name, ids in mine.items()}
        keys = {n: a if n == "item" else a.cast(pa.string()) for n, a in keys.items()}
        pq.write_table(pa.table(keys), plain / f"{part}.parquet")
        if not carried:
            continue
        past = {f"clicks__{n}": np.repeat(ids[some], each, 0) for n, ids in history.items()}
        columns = {n: pa.array(ids.astype(np.int32)) for n, ids in mine.items()}
        columns |= {n: lists(ids.astype(np.int32)) for n, ids in past.items()}
        columns["clicks__length"] = pa.array(np.full(len(mine["item"]), LENGTH, np.int32))
        pq.write_table(pa.table(columns), whole / f"{part}.parquet")
    return plain, whole


def the_job(spark: SparkSession, store: Store, plain: Path, version: int) -> float:
    source = Source(path=str(plain))
    sources = SourcesConfig(source, (), candidates=source)
    for name in (SCORES, "refused"):
        if store.fs.exists(f"{store.base}/{name}"):
            store.fs.rm(f"{store.base}/{name}", recursive=True)
    store = Store(store.base)
    start = time.perf_counter()
    with tracking.run("score", {}, {}):
        logs = Logs(spark, sources, SPEC, None)
        score_day(logs, store, ModelVersion(MODEL, version), ScoreConfig(), DAY)
    return time.perf_counter() - start


def mlflows(spark: SparkSession, whole: Path, udf: object, out: Path) -> float:
    start = time.perf_counter()
    rows = spark.read.parquet(str(whole))
    scored = rows.select("user", "item", udf(F.struct(*rows.columns)).alias("score"))  # type: ignore[operator]
    scored.write.mode("overwrite").parquet(str(out))
    return time.perf_counter() - start


def stream(of: Arrays, history: Arrays) -> Iterator[pa.RecordBatch]:
    """Return what a single task of the job would receive: each user's state, then candidates."""
    state = state_of(history)
    users, rows = len(state), len(of["user"])
    state = state.append_column(GROUP, pa.array(np.arange(users) + FIRST_ID))
    state = state.append_column(IS_STATE, pa.array(np.ones(users, bool)))
    columns = {name: pa.array(ids.astype(np.int32)) for name, ids in of.items()}
    columns[USER] = pa.array(of["user"] - FIRST_ID).cast(pa.string())
    columns[ITEM] = pa.array(of["item"] - FIRST_ID).cast(pa.string())
    columns[GROUP] = pa.array(of["user"])
    columns[IS_STATE] = pa.array(np.zeros(rows, bool))
    both = pa.concat_tables([state, pa.table(columns)], promote_options="default")
    order = np.argsort(np.r_[np.arange(users) + FIRST_ID, of["user"]], kind="stable")
    for start in range(0, len(order), BATCH):
        yield from both.take(order[start : start + BATCH]).combine_chunks().to_batches()


def function_alone(batches: list[pa.RecordBatch], folder: Path) -> float:
    keep_freed_blocks()  # as a worker does
    model, facts = artifact.load(folder)
    task = Task(start_of(DAY, "UTC"))
    start = time.perf_counter()
    for _ in score_batches(batches, model, facts, task):
        pass
    return time.perf_counter() - start


def prepare(users: int, candidates: int, folder: Path) -> tuple[SparkSession, Store, int]:
    """Return a session, a store with what scoring reads from it, and a registered version."""
    settings = {"spark.master": "local[2]", "spark.driver.memory": "6g"}
    spark = spark_session("scoring", "UTC", settings)
    store = Store(str(folder / "store"))
    publish(spark, store, draw(users, candidates)[1], folder)
    tracking.connect(TrackingConfig(model=MODEL), store.url)
    artifact.save(
        folder / "model", trainer_of(ITEMS).model, artifact.ModelMetadata("2026-11-21", "x")
    )
    with tracking.run("train", {}, {}):
        version = versions.register(MODEL, folder / "model", "x", {})
    return spark, store, version


def measure(users: int, candidates: int, rounds: int, folder: Path) -> dict[str, float]:
    spark, store, version = prepare(users, candidates, folder)
    of, history = draw(users, candidates)
    udf = mlflow.pyfunc.spark_udf(spark, f"models:/{MODEL}/{version}", "double", "local")
    few, all_ = (write(of, history, folder, n) for n in (WARM_UP, users))
    the_job(spark, store, few[0], version)
    mlflows(spark, few[1], udf, folder / "out")
    batches, rows = list(stream(of, history)), users * candidates
    torch.set_num_threads(2)
    sides = "rows_per_s", "spark_udf_rows_per_s", "function_rows_per_s"
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        taken["rows_per_s"].append(rows / the_job(spark, store, all_[0], version))
        taken["spark_udf_rows_per_s"].append(rows / mlflows(spark, all_[1], udf, folder / "out"))
        taken["function_rows_per_s"].append(rows / function_alone(batches, folder / "model"))
        latest = {side: round(each[-1]) for side, each in taken.items()}
        print(f"round {number + 1}: {latest}", flush=True)
    spark.stop()
    found = {side: float(round(statistics.median(each))) for side, each in taken.items()}
    ours = found["rows_per_s"]
    found["ratio_spark_udf"] = round(ours / found["spark_udf_rows_per_s"], 2)
    found["ratio_function"] = round(ours / found["function_rows_per_s"], 2)
    return found


def grow(users: int, candidates: int, folder: Path) -> dict[str, list[float]]:
    spark, store, version = prepare(users, candidates, folder)
    seconds, peaks = list[float](), list[float]()
    for many in (candidates, candidates, 10 * candidates):
        of, history = draw(users, many)
        (folder / f"{len(seconds)}").mkdir()
        plain, _ = write(of, history, folder / f"{len(seconds)}", users, carried=False)
        seconds.append(round(the_job(spark, store, plain, version), 2))
        peaks.append(round(peak_mb_of_workers(), 1))
    spark.stop()
    return {
        "seconds": seconds[1:],
        "worker_mb": peaks[1:],
        "ratio": [round(seconds[2] / seconds[1], 2)],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grow", action="store_true")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if words.grow:
            print(json.dumps(grow(words.users, words.candidates, Path(place))))
        else:
            print(json.dumps(measure(words.users, words.candidates, words.rounds, Path(place))))
