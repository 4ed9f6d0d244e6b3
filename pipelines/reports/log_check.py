"""What a configuration makes of one date's logs, before anything is built.

It prints what it understood of each column, some typed rows, why rows are broken, a user's history,
and warnings: what often goes wrong with a log of that shape.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from rich.table import Table

from din_model.console import console, printable, stage
from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.quarantine import UNBROKEN, good
from pipelines.ingest.sources import start_of
from pipelines.training import boosted_trees

SHOWN = 20
"""Typed rows that are printed."""

HISTORY_DAYS = 7
"""Days of behaviours that are read of a long dated log."""

RAW = 120
"""Letters of a broken row that are printed."""

LATEST = 5
"""Behaviours of the example user that are printed."""

MOSTLY = 0.5
"""Share from which something is worth a warning."""

FEW_STEPS = 30
"""Training steps of a day below which an epoch teaches little."""


@dataclass(frozen=True)
class CheckConfig:
    """The settings of other stages that warnings depend on.

    Attributes:
        batch_size: rows per training step.
        min_users: see training.gate.NightlyConfig.
        max_broken: share of broken rows above which a build stops.
    """

    batch_size: int
    min_users: int
    max_broken: float


def check_logs(logs: Logs, config: CheckConfig, day: date) -> list[str]:
    """Print what the configuration makes of ``day``'s logs; return the warnings.

    Raises:
        InputError: as a build would, for a column that is missing or of a wrong type.
    """
    spec = logs.spec
    with stage(f"{day} impressions") as report:
        marked = logs.impressions(day, day).persist()
        by_reason = {row[0]: (row[1], row[2]) for row in _by_reason(marked)}
        report.rows = sum(count for count, _ in by_reason.values())
    rows = good(marked)
    columns, labels = _columns(rows, spec), _labels(rows, spec)
    console.print(_columns_table(columns, spec))
    console.print(_rows_table(rows, spec))
    _print_reasons(by_reason)
    shown, clicked, users = labels
    rate = clicked / shown if shown else 0.0
    console.print(f"  {shown:,} good impressions, {clicked:,} clicked ({rate:.2%})")
    warnings = _of_impressions(by_reason, columns, spec, config, day)
    warnings += _of_labels(shown, clicked, users, config)
    warnings += _print_history(logs, rows, day)
    warnings += _print_candidates(logs, rows, day)
    _print_baselines(spec)
    marked.unpersist()
    return warnings


def _by_reason(marked: DataFrame) -> list[Row]:
    reason = F.coalesce("reason", F.lit("good")).alias("reason")
    return marked.groupBy(reason).agg(F.count(F.lit(1)), F.first("raw")).collect()


def _columns(rows: DataFrame, spec: FeatureSpec) -> dict[str, tuple[float, int, str]]:
    """Return feature -> share without a value, number of distinct values, one of them."""
    aggregates = []
    for f in spec.features:
        missing = F.col(f.name).isNull() | (F.size(f.name) == 0 if f.is_list else F.lit(False))
        example = F.first(f.name, ignorenulls=True).cast("string")
        aggregates += [F.avg(missing.cast("int")), F.approx_count_distinct(f.name), example]
    row = rows.agg(*aggregates).first()
    assert row is not None
    found = {}
    for i, f in enumerate(spec.features):
        share, distinct, example = row[3 * i : 3 * i + 3]
        found[f.name] = (1.0 if share is None else share, distinct, example or "")
    return found


def _labels(rows: DataFrame, spec: FeatureSpec) -> tuple[int, int, int]:
    """Return impressions, clicked ones, and users with clicked and unclicked ones."""
    clicked = F.sum((F.col("label") > 0).cast("long"))
    by_user = rows.groupBy(spec.user).agg(F.count(F.lit(1)).alias("rows"), clicked.alias("_clicks"))
    both = F.sum(((F.col("_clicks") > 0) & (F.col("_clicks") < F.col("rows"))).cast("long"))
    row = by_user.agg(F.sum("rows"), F.sum("_clicks"), both).first()
    assert row is not None
    return row[0] or 0, row[1] or 0, row[2] or 0


def _columns_table(columns: dict[str, tuple[float, int, str]], spec: FeatureSpec) -> Table:
    table = _table("What each column is", "column", "side", "type", "reads", "missing", "distinct")
    table.add_column("such as", overflow="ellipsis", no_wrap=True, max_width=24)
    for f in spec.features:
        share, distinct, example = columns[f.name]
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


def _rows_table(rows: DataFrame, spec: FeatureSpec) -> Table:
    names = [f.name for f in spec.features]
    extra = [name for name in ("weight", "reference") if name in rows.columns]
    labels = [f.log_name for f in spec.features]
    table = _table(f"{SHOWN} typed rows", "time", "label", *labels, *extra)
    for row in rows.select("time", "label", *names, *extra).limit(SHOWN).collect():
        cells = [_moment(row["time"], spec), f"{row['label']:g}"]
        cells += [_short(row[name]) for name in (*names, *extra)]
        table.add_row(*map(printable, cells))
    return table


def _print_reasons(by_reason: dict[str, tuple[int, str | None]]) -> None:
    for reason, (count, raw) in sorted(by_reason.items(), key=lambda each: -each[1][0]):
        example = f", such as {raw[:RAW]}" if raw else ""
        console.print(f"  {count:,} rows: {reason}{example}")


def _of_impressions(
    by_reason: dict[str, tuple[int, str | None]], columns: dict[str, tuple[float, int, str]],
    spec: FeatureSpec, config: CheckConfig, day: date,
) -> list[str]:  # fmt: skip
    """Return warnings on broken rows and columns."""
    total = sum(count for count, _ in by_reason.values())
    broken = sum(n for why, (n, _) in by_reason.items() if why not in UNBROKEN)
    warnings = []
    if total == 0:
        warnings.append(f"no impressions on {day}: look at sources.impressions and the date")
    elif broken > config.max_broken * total:
        warnings.append(
            f"{broken / total:.1%} of the rows are broken, build.max_broken is"
            f" {config.max_broken:.1%}: correct the types, or select good rows in the query"
        )
    for f in spec.features:
        share, distinct, _ = columns[f.name]
        if total and share >= MOSTLY:
            warnings.append(f"{share:.0%} of {f.log_name} are missing: check its type or its table")
        elif total and distinct == 1 and f.name not in (spec.user, spec.item):
            warnings.append(f"{f.log_name} has one value only: it tells the model nothing")
    if not spec.key:
        warnings.append("features.key is not set: repeats of an impression go unseen")
    return warnings


def _of_labels(shown: int, clicked: int, users: int, config: CheckConfig) -> list[str]:
    warnings = []
    if shown and not clicked:
        warnings.append("no impression is clicked: check features.label or sources.clicks")
    if shown and clicked == shown:
        warnings.append("every impression is clicked: set build.negatives for logs of positives")
    if shown and 0 < clicked < shown and users < config.min_users:
        warnings.append(
            f"{users} users have both clicked and unclicked rows, nightly.min_users is"
            f" {config.min_users}: this day cannot prove a model better"
        )
    steps = shown // config.batch_size
    if shown > 0 and steps < FEW_STEPS:
        warnings.append(
            f"a day makes {steps} training steps of {config.batch_size} rows: train on more days"
            " (train.window), or lower train.batch_size"
        )
    return warnings


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
        counts = seen.groupBy(spec.user).count().persist()
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
    counts.unpersist()
    if users and known < (1 - MOSTLY) * users:
        return [
            f"{1 - known / users:.0%} of the users have no behaviour before {day}: check that users"
            " have the same keys in both logs, and history.since"
        ]
    return []


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
    try:
        candidates = good(logs.candidates(day + DAY))
    except InputError as error:
        return [f"no candidates for {day + DAY}: {error}"]
    item = logs.spec.item
    known = rows.select(item).distinct().withColumn("_known", F.lit(1))
    counted = candidates.join(known, item, "left").agg(
        F.count(F.lit(1)), F.count("_known"), F.approx_count_distinct(logs.spec.user)
    )
    total, shown, users = counted.first() or (0, 0, 0)
    new = 1 - shown / total if total else 0.0
    console.print(
        f"  {total:,} candidates for {day + DAY}, of {users:,} users;"
        f" {new:.0%} have an item that {day} did not show"
    )
    if new >= MOSTLY and not logs.spec.vectors:
        return [
            f"{new:.0%} of the candidates have items that {day} did not show: ids tell nothing of"
            " them; counters and vectors (type: vector) do"
        ]
    return []


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
