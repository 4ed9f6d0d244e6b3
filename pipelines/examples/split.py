"""Which rows are trained on and which are held out, for splits that are not by date."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from din_model.config import Section
from din_model.features import FeatureSpec
from din_model.ranges import Count


@dataclass(frozen=True)
class SplitConfig(Section):
    """What is trained on, and what is evaluated.

    Attributes:
        by: ``date``: a later day is evaluated. ``last_position``: each user's last positive is, and
            all impressions up to the date form one data set. Impressions that were not clicked are
            trained on if they come before it, and left out after it. At equal times the impression
            with the larger example_id, which is a hash, counts as the later one.
            ``last_impression``: the same with every impression as a position, clicked or not, such
            as ratings.
        skip_first: this many first positions of a user (which have no past) serve as history only,
            as do impressions before them; not by date.
        skip_last: this many last positions are left out; 1 tunes on the second-to-last; not by
            date.
    """

    by: Literal["date", "last_position", "last_impression"] = "date"
    skip_first: Count = 1
    skip_last: Count = 0

    def since(self, day: date) -> date | None:
        """Return the first day of the impressions for a build of ``day``; None: all."""
        return day if self.by == "date" else None


def roles(rows: DataFrame, spec: FeatureSpec, split: SplitConfig) -> dict[str, DataFrame]:
    """Return the rows of ``examples`` and, unless by date, of ``holdout``; see SplitConfig."""
    if split.by == "date":
        return {"examples": rows}
    by_user = Window.partitionBy(spec.user)
    until_here = by_user.orderBy("time", "example_id").rowsBetween(Window.unboundedPreceding, 0)
    is_position = F.col("label") > 0 if split.by == "last_position" else F.lit(True)
    position = is_position.cast("int")
    placed = rows.withColumn("_before", F.sum(position).over(until_here) - position)
    after = F.sum(position).over(by_user) - F.col("_before") - position
    placed = placed.withColumn("_after", after).where(F.col("_before") >= split.skip_first)
    is_holdout = (position == 1) & (F.col("_after") == split.skip_last)
    return {
        "holdout": placed.where(is_holdout).drop("_before", "_after"),
        "examples": placed.where(F.col("_after") > split.skip_last).drop("_before", "_after"),
    }
