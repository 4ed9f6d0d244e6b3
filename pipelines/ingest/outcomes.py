"""Columns of a log that tell what came after the impression, which no feature may know."""

import math
from typing import Any

import pandas as pd

from din_model.evaluation.metrics import auc
from pipelines.ingest.times import words_of

LATER = {
    "dwell", "read", "scroll", "duration", "watch", "watched", "watching", "stay", "revenue",
    "rating", "overall", "like", "liked", "follow", "hate", "forward", "share", "comment", "play",
    "played", "playing", "conversion", "converted", "purchased", "bought", "activetime",
}  # fmt: skip
"""Words of columns that may be known only after the click."""

FEW = 20
"""Rows below which an agreement of two columns may be chance."""

CHANCE = 1e-9
"""Probability below which rows are not all clicked by chance."""

OWNERS = 5
"""Users, and items, whose rows must agree: one robot clicks everything."""

TELLING = 0.95
"""AUC of a single column above which it is taken for an outcome of the click."""


def named_later(name: str) -> bool:
    """Return whether a column is named like something that comes after the click."""
    return bool(words_of(name) & LATER)


def telling(
    values: "pd.Series[Any]", clicked: "pd.Series[float]", owners: pd.DataFrame
) -> str | None:
    """Return how a column of some impressions tells the click itself; None if it does not.

    Args:
        values: the column.
        clicked: 1 or 0.
        owners: user and item of each row.
    """
    if clicked.nunique() < 2:
        return None
    if certain := _certain(values, clicked, owners):
        return f"all {certain} are clicked"
    if pd.api.types.is_numeric_dtype(values) and (best := _best_auc(values, clicked)) > TELLING:
        return f"alone it tells clicks with AUC {best:.2f}"
    return None


def group_sizes(frame: pd.DataFrame) -> dict[str, str]:
    """Return the columns that hold how many rows share a value of another column, and that column.

    Such a size, as that of a session, tells a click what comes after it. Sizes are compared where
    they differ from the commonest one, which a column could equal by chance.
    """
    numbers = [n for n in frame.columns if pd.api.types.is_numeric_dtype(frame[n])]
    found: dict[str, str] = {}
    for group in (n for n in frame.columns if is_key(frame[n])):
        sizes = frame.groupby(group)[group].transform("size")
        telling = (sizes > 1) & (sizes != sizes[sizes > 1].mode().min())
        if telling.sum() >= FEW:
            equal = frame.loc[telling, numbers].eq(sizes[telling], axis=0).mean()
            found |= {n: group for n in numbers if n != group and equal[n] > 0.9}
    return found


def is_key(values: "pd.Series[Any]") -> bool:
    """Return whether a column holds several keys: texts or whole numbers."""
    kind = pd.api.types.infer_dtype(values.dropna().head(100))
    return kind in ("string", "integer", "empty") and values.nunique() > 1


def _certain(
    values: "pd.Series[Any]", clicked: "pd.Series[float]", owners: pd.DataFrame
) -> str | None:
    """Return the rows that are all clicked, in words: of one value, or of all but the commonest."""
    texts = values.astype(object).where(values.notna(), "null").map(str)
    needed = max(FEW, math.log(CHANCE) / math.log(clicked.mean()))
    groups = {f"with {value}": rows for value, rows in texts.groupby(texts).indices.items()}
    commonest = texts.mode().iloc[0]
    groups[f"without {commonest}"] = (texts != commonest).to_numpy().nonzero()[0]
    for name, rows in groups.items():
        certain = len(rows) >= needed and clicked.iloc[rows].all()
        if certain and (owners.iloc[rows].nunique() >= OWNERS).all():
            return f"{len(rows):,} sampled rows {name}"
    return None


def _best_auc(values: "pd.Series[Any]", clicked: "pd.Series[float]") -> float:
    """Return the AUC of a number, in its better direction; a missing one is the smallest."""
    rising = auc(clicked.to_numpy(), values.astype(float).fillna(-math.inf).to_numpy())
    return max(rising, 1 - rising)
