"""The same night as one process would do it: DuckDB for the joins, LightGBM for the model.

    python -m benchmarks.night_peer FOLDER

FOLDER holds the logs of ``benchmarks.night``. What a user would write without a cluster: counters
and the last 50 clicks as of the start of the day become features, trees are fitted to the first
date, judged on the second, and score the candidates of the third. It keeps no state, so a night
reads the whole log. The last line is JSON: seconds by stage, peak memory in MB, AUC.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import duckdb
import lightgbm
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from din_model.evaluation.metrics import auc
from pipelines.training.boosted_trees import PARAMETERS, TREES

DAYS = ("2026-11-19", "2026-11-20", "2026-11-21")

VIEWS = """
create view raw as select * from read_json('{logs}/impressions/*/*.json', hive_partitioning = true,
    columns = {{impression_id: 'varchar', user_id: 'varchar', item_id: 'bigint', time: 'varchar',
    date: 'date'}}, ignore_errors = true);
create table impressions as select distinct on (impression_id) impression_id, user_id, item_id,
    try_cast(time as timestamp) as time, date from raw
    where user_id is not null and item_id is not null and try_cast(time as timestamp) is not null;
create table clicks as select * from read_json('{logs}/clicks/*/*.json', hive_partitioning = true,
    columns = {{impression_id: 'varchar', user_id: 'varchar', item_id: 'bigint', time: 'timestamp',
    date: 'date'}});
create table items as select item_id, any_value(category) as category
    from read_parquet('{logs}/items/*/*.parquet', hive_partitioning = true) group by item_id;
create table behaviours as
    select user_id, item_id, time from read_parquet('{logs}/history/*.parquet')
    union all select user_id, item_id, time from clicks;
"""

PAST = """
create or replace table pairs as {pairs};
create or replace table shown as
    select user_id, item_id, category,
        (impression_id in (select impression_id from clicks))::int as clicked
    from impressions join items using (item_id) where date < date '{day}';
create or replace table past as
    select user_id, item_id, category,
        row_number() over (partition by user_id order by time desc) as rank
    from behaviours join items using (item_id) where time < timestamp '{day}';
create or replace table recent as select * from past where rank <= 50;
"""

COUNTED = {
    "shown": ("item_id", "user_id", "user_id, item_id", "category"),
    "past": ("item_id",),
    "recent": ("user_id", "user_id, item_id", "user_id, category"),
}
"""Table -> the keys by which its rows are counted, and of impressions also its clicks."""

SHOWN = """select user_id, item_id,
    (impression_id in (select impression_id from clicks))::int as label
    from impressions where date = date '{day}'"""
CANDIDATES = """select user_id, item_id, 0 as label
    from read_parquet('{logs}/candidates/date={day}/*.parquet')"""


def features(connection: duckdb.DuckDBPyConnection, pairs: str, day: str, out: Path) -> None:
    """Write the features of (user, item) pairs as of the start of a day."""
    connection.execute(PAST.format(pairs=pairs, day=day))
    columns, joins = ["label"], []
    for table, by in COUNTED.items():
        sums = ["count(*)"] + ["sum(clicked)"] * (table == "shown")
        for keys in by:
            names = [f"c{len(columns) + n}" for n in range(len(sums))]
            columns += [f"coalesce({name}, 0)::float as {name}" for name in names]
            counted = ", ".join(f"{sum_} as {name}" for sum_, name in zip(sums, names, strict=True))
            joins.append(
                f"left join (select {keys}, {counted} from {table} group by all)"  # noqa: S608 (our own)
                f" using ({keys})"
            )
    read = f"select {', '.join(columns)} from pairs join items using (item_id)"  # noqa: S608 (our own)
    query = " ".join([read, *joins])
    connection.execute(f"copy ({query}) to '{out}' (format parquet)")


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return inputs [rows, features] and labels [rows]."""
    table = pq.read_table(path)
    names = [name for name in table.column_names if name != "label"]
    inputs = np.stack([table.column(name).to_numpy().astype(np.float32) for name in names], 1)
    return inputs, table.column("label").to_numpy()


def night(folder: Path) -> dict[str, float]:
    """Run the night; return its seconds, memory and AUC."""
    start = time.perf_counter()
    connection = duckdb.connect()
    connection.execute(f"set threads = {os.cpu_count()}")
    connection.execute(VIEWS.format(logs=folder))
    parts = [folder / f"peer-{day}.parquet" for day in DAYS]
    for day, part in zip(DAYS[:2], parts, strict=False):
        features(connection, SHOWN.format(day=day), day, part)
    built = time.perf_counter()
    inputs, labels = read(parts[0])
    trees = lightgbm.train(PARAMETERS, lightgbm.Dataset(inputs, labels), TREES)
    trained = time.perf_counter()
    inputs, labels = read(parts[1])
    quality = auc(labels, np.asarray(trees.predict(inputs)))
    judged = time.perf_counter()
    features(connection, CANDIDATES.format(logs=folder, day=DAYS[2]), DAYS[2], parts[2])
    scores = np.asarray(trees.predict(read(parts[2])[0]))
    np.save(folder / "peer-scores.npy", scores)
    end = time.perf_counter()
    seconds = {
        "seconds": end - start, "build": built - start, "train": trained - built,
        "judge": judged - trained, "score": end - judged,
    }  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    return rounded | {"peak_mb": round(peak), "auc": round(float(quality), 4)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    print(json.dumps(night(parser.parse_args().folder)))
