"""Writes seeded raw logs of any size, to try every stage without private data.

``generate`` writes the folders that the pipeline reads, and the candidates to score. Each
impression has its true click probability (see ingest.simulation), so the best possible AUC is
known.
"""

import json
from dataclasses import asdict
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.access.choice import session_files
from pipelines.access.files import escaped
from pipelines.caching import cached, caching
from pipelines.ingest.simulation import GenerateConfig, simulate

# Odd ids above 2^53 are not representable as doubles: a reader that uses floats loses them.
COLUMNS = """
    format_string('u%07d', user) AS user_id
    9007199254740993 + item * 1000000007 AS item_id
    format_string('i%07d-%d-%d', user, day, number) AS impression_id
    coalesce(left(time, 10), string(date_add(date'{first_date}', int(day)))) AS date
    to_json(struct(impression_id, user_id, item_id, time, position, true_probability)) AS line
"""
BROKEN_LINE = """CASE broken
    WHEN 1 THEN left(line, length(line) div 2)
    WHEN 2 THEN regexp_replace(line, '"user_id":"[^"]*"', '"user_id":null')
    WHEN 3 THEN regexp_replace(line, '"time":"[^"]*"', '"time":"yesterday"')
    WHEN 4 THEN regexp_replace(line, '"item_id":[0-9]*,', '')
    ELSE line END AS value"""
# Uniform in [-1, 1): the same for the items of a category, plus noise of half that width.
VECTOR = """transform(sequence(0, {size} - 1), j -> float(
    pmod(xxhash64(number, j), 1000) / 500.0 - 1 + (pmod(xxhash64(item, j), 1000) / 500.0 - 1) / 2
    )) AS embedding"""
TABLES = {
    "impressions": ("text", [BROKEN_LINE, "date"]),
    "clicks": ("json", ["impression_id", "user_id", "item_id", "time", "date"]),
    "history": ("parquet", ["user_id", "item_id", "timestamp(time) AS time"]),
    "items": ("parquet", ["item_id", "format_string('c%03d', number) AS category", "date"]),
    "users": ("parquet", ["user_id", "format_string('s%d', user % 5) AS segment", "date"]),
    "candidates": ("parquet", ["user_id", "item_id", "date"]),
}


@caching()
def generate(spark: SparkSession, config: GenerateConfig) -> dict[str, int]:
    """Write the logs under ``config.path``, unless they exist with the same parameters.

    Returns:
        Rows of each table, broken impressions included.

    Raises:
        InputError: impossible parameters, or logs in that folder that were not generated.
    """
    _check(config)
    files = session_files(spark)
    root = files.absolute(config.path.rstrip("/"))
    marker = f"{root}/_generated.json"
    parameters = {key: value for key, value in asdict(config).items() if key != "path"}
    if files.exists(marker):
        written = json.loads(files.read_text(marker))
        if written["parameters"] == parameters and written["rows"]:
            return dict(written["rows"])
    elif foreign := [t for t in TABLES if files.exists(f"{root}/{t}")]:
        raise InputError(
            f"{config.path}: {foreign} were not generated: set generate.path to an empty folder"
        )

    def mark(rows: dict[str, int]) -> None:
        files.write_text(marker, json.dumps({"parameters": parameters, "rows": rows}))

    mark({})  # an interrupted run leaves this: the folder is ours, and must be written again
    events = cached(simulate(spark, config))
    rows = {table: _write_table(spark, events, config, table) for table in TABLES}
    mark(rows)
    return rows


def _write_table(spark: SparkSession, events: DataFrame, config: GenerateConfig, table: str) -> int:
    """Replace the folder of a table; return its rows."""
    kind, selected = TABLES[table]
    if table == "items" and config.vector_size:
        selected = [*selected, VECTOR.format(size=config.vector_size)]
    files = session_files(spark)
    root = files.absolute(config.path.rstrip("/"))
    target, fresh = f"{root}/{table}", f"{root}/_{table}"
    columns = COLUMNS.format(first_date=config.first_date).strip().splitlines()
    frame = events.where(F.col("table") == table).selectExpr("*", *columns).selectExpr(*selected)
    dates = ["date"] if "date" in selected else []
    # Rebalance instead of repartition: one file per small date, several per large one.
    # DataFrame.hint() takes no column for this hint.
    hint = "/*+ REBALANCE(date) */" if dates else "/*+ REBALANCE(user_id) */"
    frame = spark.sql(f"SELECT {hint} * FROM {{frame}}", frame=frame)  # noqa: S608 (a constant)
    frame.write.mode("overwrite").partitionBy(*dates).format(kind).save(fresh)
    rows = spark.read.format(kind.replace("json", "text")).load(escaped(fresh)).count()
    for file in files.matches(f"{escaped(fresh)}/*/*.txt")[1]:
        files.move(file.address, f"{file.address.removesuffix('txt')}json")
    files.remove(target)
    files.move(fresh, target)
    return rows


def _check(config: GenerateConfig) -> None:
    """Raise an InputError for the first parameter that no logs can have."""
    try:
        date.fromisoformat(config.first_date)
    except ValueError:
        raise InputError(
            f"generate.first_date: {config.first_date!r} is not a date like 2026-11-19"
        ) from None
    limits = {
        "categories": config.items,
        "interests": config.categories,
        "candidates_users": config.users,
        "candidates_items": config.items,
        "fresh": 1 if config.new_items else 0,
    }
    for name, limit in limits.items():
        if getattr(config, name) > limit:
            raise InputError(
                f"generate.{name}: {getattr(config, name)} must be {limit} at most, as the other"
                " numbers are"
            )
