"""Compare the point-in-time join with DuckDB, Parquet to Parquet, on two threads each.

    python -m benchmarks.sequences            # the same rows by both
    python -m benchmarks.sequences --growth   # ten times the rows; one user with half of them

Starting a session and warming it up on a fiftieth of the rows is not timed. Every round runs both,
and the medians are compared. The last line is JSON. Needs ``pip install duckdb``.
"""

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.progress import track

from benchmarks.memory import peak_mb_of_workers
from din_model.features import Feature, FeatureSpec, History
from pipelines.examples.point_in_time_join import attach_history, unpack
from pipelines.session import spark_session
from pipelines.store.store import Store

BEHAVIOURS, IMPRESSIONS, USERS = 5_000_000, 2_000_000, 100_000
LENGTH = 50
DAY = date(2026, 11, 22)
ROUNDS = 3

SPEC = FeatureSpec(
    user="user", item="item", time="time", time_zone="UTC", cutoff="impression", label="label",
    features=(
        Feature("user", "user", "int64", "user", 16),
        Feature("item", "item", "int64", "item", 16),
        Feature("category", "item", "int64", "category", 16),
    ),
    histories=(History("clicks", LENGTH, 0, {"item": "item", "category": "category"}),),
)  # fmt: skip

# An ASOF join counts the visible behaviours. It was faster than filtering a sorted list of structs
# and than counting in a sorted list of times.
DUCKDB = """
copy (
    with numbered as (
        select *, row_number() over (partition by user order by time, item, category) as n
        from read_parquet('{folder}/behaviours/*.parquet')
    ), lists as (
        select user, list(item order by n) as items, list(category order by n) as categories
        from numbered group by user
    ), counted as (
        select i.*, coalesce(b.n, 0) as n
        from read_parquet('{folder}/impressions/*.parquet') i
        asof left join (select user, time, n from numbered) b
            on i.user = b.user and i.time > b.time
    )
    select c.user, c.time, c.item, c.category, c.example_id,
        coalesce(items[greatest(n - {before}, 1):n], []) as clicks__item,
        coalesce(categories[greatest(n - {before}, 1):n], []) as clicks__category
    from counted c left join lists using (user)
) to '{out}' (format parquet, compression zstd)
"""
SUM = """
select count(*), sum(hash(user, time, item, category, example_id, {lists})::hugeint)
from read_parquet('{files}')
"""


def write_logs(folder: Path, scale: float, giant: float = 0.0) -> None:
    """Write both logs; ``giant``: one user's share of all behaviours."""
    rng = np.random.default_rng(2019)
    users = max(2, int(USERS * scale))
    activity = rng.lognormal(0, 1.3, users)
    activity /= activity.sum()
    skewed = np.r_[giant, (1 - giant) * activity[1:] / activity[1:].sum()] if giant else activity
    for name, rows, shares in (
        ("behaviours", int(BEHAVIOURS * scale), skewed),
        ("impressions", int(IMPRESSIONS * scale), activity),
    ):
        (folder / name).mkdir(parents=True)
        for part, count in enumerate(np.diff(np.linspace(0, rows, 9).astype(int))):
            columns = {
                "user": rng.choice(users, count, p=shares).astype(np.int32),
                "time": 1_760_000_000_000_000 + rng.integers(0, 30 * 86_400 * 10**6, count),
                "item": rng.integers(2, 1_000_000, count, dtype=np.int32),
                "category": rng.integers(2, 1_000, count, dtype=np.int32),
            }
            if name == "impressions":
                columns["example_id"] = rng.integers(-(2**63), 2**63 - 1, count)
            path = folder / name / f"{part}.parquet"
            pq.write_table(pa.table(columns), path, compression="zstd")


def session() -> SparkSession:
    """Start a session of two threads."""
    settings = {"spark.master": "local[2]", "spark.sql.shuffle.partitions": "32"}
    return spark_session("benchmark", "UTC", settings)


def ours(spark: SparkSession, folder: Path) -> float:
    """Attach histories and publish, as a build does; return seconds."""
    start = time.perf_counter()
    impressions = spark.read.parquet(str(folder / "impressions"))
    behaviours = spark.read.parquet(str(folder / "behaviours"))
    attached = attach_history(
        impressions.withColumn("cutoff", F.col("time")),
        behaviours.withColumn("kind", F.lit(0).cast("byte")),
        SPEC,
    )
    Store(str(folder / "store")).publish("examples", DAY, attached, {}, prepare=unpack(SPEC))
    return time.perf_counter() - start


def theirs(folder: Path) -> float:
    """Do the same with DuckDB; return seconds."""
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    connection.execute("set preserve_insertion_order = false")
    out = folder / "duckdb.parquet"
    start = time.perf_counter()
    connection.execute(DUCKDB.format(folder=folder, out=out, before=LENGTH - 1))
    return time.perf_counter() - start


def row_sums(folder: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (rows, sum of row hashes) of ours and of theirs."""
    lists = "clicks__item, clicks__category"
    store = Store(f"{folder}/store")
    files = Path(store.base, store.require("examples", DAY, "").folder)
    published = f"{files}/*.parquet"
    read = [
        SUM.format(lists=lists, files=published),
        SUM.format(lists=lists, files=folder / "duckdb.parquet"),
    ]
    (first,), (second,) = (duckdb.connect().execute(query).fetchall() for query in read)
    return first, second


def measure(folder: Path, rounds: int) -> tuple[float, float]:
    """Return (median seconds, peak MB) of ours after a warm-up; run it in a new process."""
    spark = session()
    ours(spark, folder.parent / "warm")
    seconds = statistics.median(ours(spark, folder) for _ in range(rounds))
    return seconds, peak_mb_of_workers()


def side_by_side(root: Path) -> dict[str, float]:
    """Compare with DuckDB; exit if a row differs."""
    write_logs(root / "warm", 0.02)
    write_logs(root / "even", 1)
    spark, folder = session(), root / "even"
    ours(spark, root / "warm")
    rounds = [(ours(spark, folder), theirs(folder)) for _ in track(range(ROUNDS), "rounds")]
    rss = peak_mb_of_workers()
    first, second = row_sums(folder)
    if first != second:
        raise SystemExit(f"rows differ: {first} (rows, hash sum) against DuckDB's {second}")
    seconds, peer = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(f"equal: {first[0]:,} rows, hash sum {first[1]}; rounds {rounds}")
    return {
        "seconds": round(seconds, 2),
        "duckdb_seconds": round(peer, 2),
        "ratio": round(seconds / peer, 3),
        "rows_per_s": round((BEHAVIOURS + IMPRESSIONS) / seconds),
        "peak_worker_rss_mb": round(rss),
    }


def growth(root: Path) -> dict[str, float]:
    """Compare ten times the rows, and one user with half of all behaviours, with the even case."""
    write_logs(root / "warm", 0.02)
    found = {}
    for name, scale, giant in (("even", 1, 0.0), ("giant", 1, 0.5), ("tenfold", 10, 0.0)):
        write_logs(root / name, scale, giant)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rounds = 1 if scale > 1 else ROUNDS
            found[name] = pool.submit(measure, root / name, rounds).result()
        print(name, f"{found[name][0]:.1f} s, worker peak {found[name][1]:.0f} MB")
    even = found["even"]
    return {
        "seconds": round(even[0], 2),
        "tenfold_time": round(found["tenfold"][0] / even[0], 2),
        "tenfold_memory": round(found["tenfold"][1] / even[1], 2),
        "giant_time": round(found["giant"][0] / even[0], 2),
        "giant_memory": round(found["giant"][1] / even[1], 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--growth", action="store_true")
    grow = parser.parse_args().growth
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(growth(Path(place)) if grow else side_by_side(Path(place))))
