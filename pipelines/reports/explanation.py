"""One user's best candidates, and the behaviours of the largest weights in each score."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from din_model.features import FeatureSpec
from pipelines.columns import column
from pipelines.ingest.logs import Logs
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store

BEST = 3


@dataclass(frozen=True)
class Reason:
    """A behaviour with its attention weight; ``behaviour`` is its item and side columns as text."""

    weight: float
    kind: str
    behaviour: str


@dataclass(frozen=True)
class Offer:
    """A scored candidate of the user, with the behaviours of the largest weights."""

    rank: int
    item: str
    score: float
    explanations: tuple[Reason, ...]


@dataclass(frozen=True)
class Explained:
    """One user's best candidates; ``behaviours`` is the length of the user's history."""

    user: str
    behaviours: int
    offers: tuple[Offer, ...]


def explain_user(logs: Logs, store: Store, scores: Manifest, day: date) -> Explained | None:
    """Explain the scores of the user with the longest history; ties go to the first key.

    Args:
        logs: the spec, and the side table that names the items.
        store: where the scores are.
        scores: the scored date.
        day: the date of the night; items are named by its side table.

    Returns:
        None without rows, or if ``score.explain`` is off.
    """
    spec, table = logs.spec, store.read(logs.spark, [scores])
    user, item_key = (f.log_name for f in spec.user_and_item)
    first = table.orderBy(F.desc("history_length"), column(user)).first()
    if first is None or "explanations" not in table.columns:
        return None
    best = (column(user) == first[user]) & (F.col("rank") <= BEST)
    top = table.where(best).orderBy("rank").collect()
    items = {str(row[item_key]) for row in top}
    items |= {str(why["item"]) for row in top for why in row["explanations"] or ()}
    others = [f for f in spec.side("item") if f.name != spec.item]
    others = [f for f in others if not (f.is_list or f.is_vector)]
    known = logs.side_tables.latest("items", others, day) if logs.sources.items else None
    named = _names(known, items, spec) if known is not None else {}
    key_feature = {h.kind: spec.key_feature(h).name for h in spec.histories}

    def show(item: Any, feature: str = spec.item) -> str:
        return f"{item} {named.get(str(item), '') if feature == spec.item else ''}".strip()

    def offer(row: Row) -> Offer:
        explanations = [
            Reason(why["weight"], why["kind"], show(why["item"], key_feature[why["kind"]]))
            for why in row["explanations"] or ()
        ]
        return Offer(row["rank"], show(row[item_key]), row["score"], tuple(explanations))

    return Explained(str(first[user]), first["history_length"], tuple(map(offer, top)))


def _names(labels: DataFrame, items: set[str], spec: FeatureSpec) -> dict[str, str]:
    others = [c for c in labels.columns if c != spec.item]
    if not others:
        return {}
    rows = labels.where(F.col(spec.item).isin(*items)).collect()
    return {r[spec.item]: "(" + ", ".join(str(r[c]) for c in others) + ")" for r in rows}
