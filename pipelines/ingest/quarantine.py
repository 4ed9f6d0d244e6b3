"""Quarantine: broken rows are published with a reason and counted; too many stop the job."""

from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from din_model.errors import InputError
from pipelines.ingest.attribution import ALONE, LATE, REPEATED
from pipelines.store.data_sets import QUARANTINE
from pipelines.store.store import Store

UNBROKEN = ("good", REPEATED, LATE, ALONE, "repeated impression", "repeated behaviour")
"""Reasons that say nothing against the quality of a log."""


def good(marked: DataFrame) -> DataFrame:
    """Return the rows without a reason."""
    return marked.where("reason is null").drop("reason", "raw")


def reasons(marked: DataFrame) -> dict[str, int]:
    """Count rows by reason; ``good`` for rows without one."""
    counted = marked.groupBy(F.coalesce("reason", F.lit("good")).alias("reason")).count()
    return dict(sorted(map(tuple, counted.collect())))


def quarantined(funnel: dict[str, dict[str, int]]) -> str:
    """Return the number of quarantined rows as text; empty for none."""
    total = sum(n for reasons in funnel.values() for why, n in reasons.items() if why != "good")
    return f"{total:,} quarantined" if total else ""


def quarantine(
    store: Store, day: date, marked: dict[str, DataFrame], funnel: dict[str, Any], limit: float
) -> None:
    """Publish the broken rows, then stop if they are too many or no impression is good.

    Args:
        store: where they are published.
        day: the date.
        marked: source -> rows with reason and raw.
        funnel: source -> rows by reason.
        limit: allowed share of broken rows.

    Raises:
        InputError: too many broken rows, or no good impression.
    """
    bad = [
        rows.where("reason is not null").select(F.lit(name).alias("source"), "reason", "raw")
        for name, rows in marked.items()
    ]
    rows = reduce(DataFrame.unionByName, bad).coalesce(1)
    manifest = store.publish(QUARANTINE, day, rows, {"funnel": funnel})
    for name, reasons in funnel.items():
        broken = {w: n for w, n in reasons.items() if w not in UNBROKEN}
        total = sum(reasons.values())
        all_broken = name == "impressions" and broken and not reasons.get("good")
        if all_broken or sum(broken.values()) > limit * total:
            worst = max(broken, key=lambda why: broken[why])
            raise InputError(
                f"sources.{name}: {sum(broken.values())} of {total} rows of {day} are broken,"
                f" mostly '{worst}' ({broken[worst]}): correct the log, or raise build.max_broken"
                f" ({limit}); the rows are in"
                f" {store.urls(manifest)[0] if manifest.files else store.url}"
            )
    if not funnel["impressions"].get("good"):
        raise InputError(
            f"sources.impressions: no impressions on {day}: if it is before the first date of the"
            " logs, set history.since; if its logs are lost, add it to sources.lost_dates"
        )
