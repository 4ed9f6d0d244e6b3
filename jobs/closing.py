"""What a person reads when a job ends: metrics by baselines, counts that reconcile, one user."""

from datetime import date
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.table import Table

from din_model import registry
from din_model.features import FeatureSpec
from din_model.progress import console
from pipelines.challenger import Metrics
from pipelines.dataset import Manifest, Store
from pipelines.examples import whole
from pipelines.logs import Logs
from pipelines.night import Decision


def close_night(
    logs: Logs, store: Store, model: str, encoder: str, decision: Decision, scores: Manifest,
    day: date,
) -> None:  # fmt: skip
    """Print how the day was judged, that its counts reconcile, and one user's best candidates."""
    console.print()
    console.print(metrics_table(decision.metrics, str(day)))
    console.print(f"  {share_of_possible(decision.metrics, encoder)}")
    examples, spec = whole(store, day), logs.spec
    reasons = examples.facts["funnel"]["impressions"]
    shown, quarantined = sum(reasons.values()), sum(reasons.values()) - reasons["good"]
    reconciled(
        f"impressions of {day}", shown,
        examples=examples.rows, quarantined=quarantined, erased=examples.erased,
    )  # fmt: skip
    trained = registry.load(model, decision.version)[1]
    reconciled(f"manifest rows of version {decision.version}", trained.rows, read=trained.rows_read)
    offered, refused = scores.facts["candidates"], scores.facts["refused"]
    parts = {"scores": scores.rows, "refused": refused, "erased": scores.erased}
    parts["below_top"] = scores.facts.get("below_top", 0)
    reconciled(f"candidates for {scores.date}", offered, **parts)
    others = [f for f in spec.side("item") if f.name != spec.item and not f.is_list]
    known = logs.attributes.latest("items", others, day) if logs.sources.items else None
    sample_user(store.read(logs.spark, [scores]), known, spec)


def metrics_table(results: Metrics, day: str) -> Table:
    """One line a model or baseline; all judged on the same rows."""
    table = Table(title=f"Judged on {day}, which none of them saw", title_justify="left")
    table.add_column("")
    for name in ("AUC", "GAUC", "log loss", "calibration"):
        table.add_column(name, justify="right")
    for name, values in results.items():
        numbers = [values[k] for k in ("auc", "gauc", "log_loss", "calibration")]
        label = "reference (best possible)" if name == "reference" else name
        table.add_row(label, *[f"{n:.4f}" if n == n else "-" for n in numbers])
    return table


def share_of_possible(results: Metrics, encoder: str) -> str:
    """How much of the reference's AUC above chance the model reaches."""
    if "reference" not in results:
        return ""
    share = (results[encoder]["auc"] - 0.5) / (results["reference"]["auc"] - 0.5)
    return f"(AUC - 0.5) / (best possible AUC - 0.5) = {share:.3f}"


def reconciled(what: str, total: int, **parts: int) -> None:
    """Print a number and the parts that must add up to it; erased and cut ones if there are."""
    seldom = ("erased", "below_top")
    parts = {name: count for name, count in parts.items() if count or name not in seldom}
    sign = "=" if total == sum(parts.values()) else "≠"
    told = " + ".join(f"{name} {count:,}" for name, count in parts.items())
    console.print(f"  {what} {total:,} {sign} {told}")


def sample_user(scores: DataFrame, labels: DataFrame | None, spec: FeatureSpec) -> None:
    """Print one user's best candidates and the behaviours that weighed most in each.

    Args:
        labels: item and its other attributes as text, to tell items by.
    """
    past = F.desc("history_length")
    first = scores.orderBy(past, spec.user).select(spec.user).first()
    if first is None or "because" not in scores.columns:
        return
    top = (
        scores.where((F.col(spec.user) == first[0]) & (F.col("rank") <= 3))
        .orderBy("rank")
        .collect()
    )
    items = {str(row[spec.item]) for row in top}
    items |= {str(why["item"]) for row in top for why in row["because"] or ()}
    named = _names(labels, items, spec) if labels is not None else {}
    told_by = {h.kind: spec.told_by(h).name for h in spec.histories}

    def show(item: Any, feature: str = spec.item) -> str:
        return f"{item} {named.get(str(item), '') if feature == spec.item else ''}".strip()

    console.print(f"\n  [bold]{spec.user} {first[0]}[/]: best candidates, and what weighed most")
    for row in top:
        console.print(f"  {row['rank']}. {show(row[spec.item])}   score {row['score']:.3f}")
        for why in row["because"] or ():
            behaviour = show(why["item"], told_by[why["kind"]])
            console.print(f"       {why['weight']:.3f}  {why['kind']}: {behaviour}")


def _names(labels: DataFrame, items: set[str], spec: FeatureSpec) -> dict[str, str]:
    others = [c for c in labels.columns if c != spec.item]
    rows = labels.where(F.col(spec.item).isin(*items)).collect()
    return {r[spec.item]: "(" + ", ".join(str(r[c]) for c in others) + ")" for r in rows}
