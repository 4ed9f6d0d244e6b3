"""Which rows are trained on and which are held out, where dates do not say so."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.features import FeatureSpec


@dataclass(frozen=True)
class SplitConfig(Section):
    """What is trained on, and what judges.

    Attributes:
        by: ``date``: a later day judges. ``last_position``: each user's last positive does, and all
            impressions up to the date are taken together.
        skip_first: for ``last_position``: so many first positives of a user (they have no past) are
            histories only.
        skip_last: for ``last_position``: so many last ones are left out, so that 1 tunes on the
            second-to-last.
    """

    by: Literal["date", "last_position"] = "date"
    skip_first: int = 1
    skip_last: int = 0

    def since(self, day: date) -> date | None:
        """The first day of the impressions that a build of ``day`` takes; None: the beginning."""
        return day if self.by == "date" else None


def roles(rows: DataFrame, spec: FeatureSpec, split: SplitConfig) -> dict[str, DataFrame]:
    """Return the rows of ``examples`` and, for last_position, of ``holdout``."""
    if split.by == "date":
        return {"examples": rows}
    by_user = Window.partitionBy(spec.user)
    oldest_first = by_user.orderBy("time", "example_id")
    placed = rows.withColumn("_from_start", F.row_number().over(oldest_first) - 1)
    total = F.count(F.lit(1)).over(by_user)
    placed = placed.withColumn("_from_end", total - 1 - F.col("_from_start"))
    late_enough = F.col("_from_start") >= split.skip_first
    held = (F.col("_from_end") == split.skip_last) & late_enough
    trained = (F.col("_from_end") > split.skip_last) & late_enough
    return {
        "holdout": placed.where(held).drop("_from_start", "_from_end"),
        "examples": placed.where(trained).drop("_from_start", "_from_end"),
    }
