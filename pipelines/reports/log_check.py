"""What a configuration makes of one date's logs, before anything is built.

It prints what it understood of each column, some typed rows, why rows are broken, and a user's
history.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.table import Table

from din_model.console import console, printable, stage
from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.caching import cached, caching
from pipelines.examples.data_quality import Numbers, of_impressions
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.quarantine import good
from pipelines.ingest.reading import files_of, naming_damaged
from pipelines.ingest.sources import start_of
from pipelines.reports.log_warnings import (
    CheckConfig,
    on_candidates,
    on_columns,
    on_history,
    on_labels,
    on_outcomes,
    on_rows,
)
from pipelines.training import boosted_trees

SHOWN = 20
"""Typed rows that are printed."""

SAMPLE = 20_000
"""Rows in which columns are looked for that tell the click."""

OF_TIME_AND_LABEL, LEAST_WIDTH = 33, 14
"""Characters of a line: the columns of time and label, and each further column."""

HISTORY_DAYS = 7
"""Days of behaviours that are read of a long dated log."""

RAW = 120
"""Letters of a broken row that are printed."""

LATEST = 5
"""Behaviours of the example user that are printed."""


@caching()
def check_logs(logs: Logs, config: CheckConfig, day: date) -> list[str]:
    """Print what the configuration makes of ``day``'s logs; return the warnings.

    Raises:
        InputError: as a build would, for a column that is missing or of a wrong type.
    """
    spec = logs.spec
    with stage(f"{day} impressions") as report:
        marked = logs.impressions(day, day)
        files = files_of([marked])
        with naming_damaged(logs.spark, files):
            reasons, numbers = of_impressions(cached(marked), spec, day)
        report.rows = sum(reasons.values())
    rows = good(marked)
    values = _values(rows, spec)
    console.print(_columns_table(values, numbers, spec))
    for table in _rows_tables(rows, spec):
        console.print(table)
    _print_reasons(reasons, marked)
    shown = reasons.get("good", 0)
    clicked = round(shown * numbers.get("label_rate", 0.0))
    rate = clicked / shown if shown else 0.0
    console.print(f"  {shown:,} good impressions, {clicked:,} clicked ({rate:.2%})")
    warnings = on_rows(reasons, config, day)
    warnings += on_columns(numbers, {name: n for name, (n, _) in values.items()}, spec)
    warnings += on_outcomes(_sample(rows, spec), spec) if shown else []
    warnings += on_labels(shown, clicked, _users_with_both_labels(rows, spec), config)
    warnings += _print_history(logs, rows, day)
    warnings += _print_candidates(logs, rows, day)
    _print_baselines(spec)
    return warnings


def _values(rows: DataFrame, spec: FeatureSpec) -> dict[str, tuple[int, str]]:
    """Return feature -> number of distinct values, and one of them."""
    aggregates = []
    for f in spec.features:
        example = F.first(f.name, ignorenulls=True).cast("string")
        aggregates += [F.approx_count_distinct(f.name), example]
    row = rows.agg(*aggregates).first()
    assert row is not None
    return {f.name: (row[2 * i], row[2 * i + 1] or "") for i, f in enumerate(spec.features)}


def _sample(rows: DataFrame, spec: FeatureSpec) -> pd.DataFrame:
    """Return label and features of some rows, without lists and vectors."""
    names = [f.name for f in spec.features if not (f.is_list or f.is_vector)]
    chosen = rows.orderBy(F.xxhash64("example_id"), "example_id").limit(SAMPLE)
    return chosen.select(F.col("label").cast("double").alias("label"), *names).toPandas()


def _users_with_both_labels(rows: DataFrame, spec: FeatureSpec) -> int:
    rate = rows.groupBy(spec.user).agg(F.avg((F.col("label") > 0).cast("int")).alias("_rate"))
    return rate.where("_rate > 0 and _rate < 1").count()


def _columns_table(
    values: dict[str, tuple[int, str]], numbers: Numbers, spec: FeatureSpec
) -> Table:
    table = _table("What each column is", "column", "side", "type", "reads", "missing", "distinct")
    table.add_column("such as", overflow="ellipsis", no_wrap=True, max_width=24)
    for f in spec.features:
        distinct, example = values[f.name]
        share = numbers.get(f"null.{f.name}", 1.0)
        cells = [f.log_name, f.side, _type(f), _reads(f), f"{share:.1%}", f"{distinct:,}", example]
        table.add_row(*map(printable, cells))
    return table


def _type(f: Feature) -> str:
    return f"list of {f.type}" if f.is_list else f.type


def _reads(f: Feature) -> str:
    if f.is_vector:
        return f"vector of {f.size}, projected to {f.dimension}"
    if f.is_value:
        return f"value, {f.scale}"
    return f"embedding of {f.dimension}" if f.dimension else "not in the model"


def _rows_tables(rows: DataFrame, spec: FeatureSpec) -> Iterator[Table]:
    """Yield the same rows again and again, each time with as many columns as the terminal fits."""
    titles = {f.name: f.log_name for f in spec.features}
    titles |= {name: name for name in ("weight", "reference") if name in rows.columns}
    first = rows.orderBy("time", "example_id").select("time", "label", *titles).limit(SHOWN)
    shown, names = first.collect(), list(titles)
    fitting = max(1, (console.width - OF_TIME_AND_LABEL) // LEAST_WIDTH)
    for start in range(0, len(names), fitting):
        part = names[start : start + fitting]
        title = f"The first {SHOWN} typed rows"
        if len(part) < len(names):
            title += f", columns {start + 1} to {start + len(part)} of {len(names)}"
        table = _table(title, "time", "label", *[titles[n] for n in part])
        for row in shown:
            cells = [_moment(row["time"], spec), f"{row['label']:g}"]
            table.add_row(*map(printable, [*cells, *(_short(row[name]) for name in part)]))
        yield table


def _print_reasons(reasons: dict[str, int], marked: DataFrame) -> None:
    """Print rows by reason, with an example of each."""
    raws = marked.where("reason is not null").groupBy("reason").agg(F.first("raw")).collect()
    examples = {reason: raw for reason, raw in raws if raw}
    for reason, count in sorted(reasons.items(), key=lambda each: -each[1]):
        example = f", such as {examples[reason][:RAW]}" if reason in examples else ""
        console.print(f"  {count:,} rows: {reason}{example}")


def _print_history(logs: Logs, rows: DataFrame, day: date) -> list[str]:
    """Print the history of the user with most behaviours, as the first impression sees it."""
    spec, start = logs.spec, start_of(day, logs.spec.time_zone)
    first = _first_day(logs, day)
    with stage(f"{day} behaviours") as report:
        try:
            behaviours = good(logs.behaviours(first, day))
        except InputError as error:
            report.note = "only the date itself"
            console.print(f"  {error}")
            behaviours = good(logs.behaviours(day, day))
        seen = behaviours.where(F.col("time") < start).join(
            rows.select(spec.user).distinct(), spec.user, "left_semi"
        )
        counts = cached(seen.groupBy(spec.user).count())
        report.rows = int(counts.agg(F.sum("count")).first()[0] or 0)  # type: ignore[index]
    users, known = rows.select(spec.user).distinct().count(), counts.count()
    console.print(f"  {known:,} of {users:,} users have behaviours before {day}")
    most = counts.orderBy(F.desc("count"), spec.user).first()
    if most is not None:
        newest = seen.where(F.col(spec.user) == most[0]).orderBy(F.desc("time")).limit(LATEST)
        title = f"The newest of {most['count']:,} behaviours of {most[0]}, before {day}"
        names = [f.name for f in spec.features if f.name in seen.columns and f.name != spec.user]
        table = _table(title, "time", "kind", *[spec[name].log_name for name in names])
        for row in newest.collect():
            cells = [_moment(row["time"], spec), spec.histories[row["kind"]].kind]
            table.add_row(*map(printable, (*cells, *(_short(row[name]) for name in names))))
        console.print(table)
    return on_history(users, known, day)


def _first_day(logs: Logs, day: date) -> date | None:
    """Return the first day of behaviours to read; None: all, if they are few or in one file."""
    sources = logs.sources
    dated = any(
        (sources.impressions if each.origin == "impressions" else each).dated
        for each in sources.behaviours
    )
    recent = day - HISTORY_DAYS * DAY
    return recent if dated and (logs.since is None or logs.since < recent) else None


def _print_candidates(logs: Logs, rows: DataFrame, day: date) -> list[str]:
    """Print how many candidates of the next date there are, and how many items are new."""
    if logs.sources.candidates is None:
        console.print("  candidates: by rule (section candidates), not checked here")
        return []
    item = logs.spec.item
    known = rows.select(item).distinct().withColumn("_known", F.lit(1))
    try:
        candidates = good(logs.candidates(day + DAY))
        counted = candidates.join(known, item, "left").agg(
            F.count(F.lit(1)), F.count("_known"), F.approx_count_distinct(logs.spec.user)
        )
        with naming_damaged(logs.spark, files_of([candidates])):
            total, shown, users = counted.first() or (0, 0, 0)
    except InputError as error:
        return [f"no candidates for {day + DAY}: {error}"]
    new = 1 - shown / total if total else 0.0
    console.print(
        f"  {total:,} candidates for {day + DAY}, of {users:,} users;"
        f" {new:.0%} have an item that {day} did not show"
    )
    return on_candidates(new, day, logs.spec)


def _print_baselines(spec: FeatureSpec) -> None:
    names = ["popularity (by a counter)" if spec.popularity else "popularity (by training days)"]
    names.append("base rate")
    if boosted_trees.available(spec):
        names.append("lightgbm")
    if spec.reference:
        names.append(f"reference ({spec.reference})")
    console.print(f"  baselines of the gate: {', '.join(names)}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=printable(title), title_justify="left")
    for name in columns:
        table.add_column(printable(name), overflow="ellipsis", no_wrap=True, max_width=24)
    return table


def _moment(microseconds: int, spec: FeatureSpec) -> str:
    moment = datetime.fromtimestamp(0, ZoneInfo("UTC")) + timedelta(microseconds=microseconds)
    return moment.astimezone(ZoneInfo(spec.time_zone)).strftime("%Y-%m-%d %H:%M:%S")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
