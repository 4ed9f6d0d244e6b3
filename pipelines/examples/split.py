"""Which rows are trained on and which are held out, for splits that are not by date."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.features import FeatureSpec


@dataclass(frozen=True)
class SplitConfig(Section):
    """What is trained on, and what is evaluated.

    Attributes:
        by: ``date``: a later day is evaluated. ``last_position``: each user's last positive is, and
            all impressions up to the date form one data set.
        skip_first: for ``last_position``: this many first positives of a user (which have no past)
            serve as history only.
        skip_last: for ``last_position``: this many last ones are left out; 1 tunes on the
            second-to-last.
    """

    by: Literal["date", "last_position"] = "date"
    skip_first: int = 1
    skip_last: int = 0

    def since(self, day: date) -> date | None:
        """Return the first day of the impressions for a build of ``day``; None: all."""
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
    is_holdout = (F.col("_from_end") == split.skip_last) & late_enough
    is_example = (F.col("_from_end") > split.skip_last) & late_enough
    return {
        "holdout": placed.where(is_holdout).drop("_from_start", "_from_end"),
        "examples": placed.where(is_example).drop("_from_start", "_from_end"),
    }
