"""Print a night: the models' metrics, the reconciled counts and one user's candidates."""

from datetime import date

from rich.table import Table

from din_model.console import console
from din_model.evaluation.metrics import relative_improvement
from din_model.registry import versions
from pipelines.examples.publish import unsampled_examples
from pipelines.reports.explanation import Explained
from pipelines.reports.metrics import METRICS, metric_rows
from pipelines.reports.nightly import NightSummary
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from pipelines.training.evaluate import Metrics


def print_night(store: Store, night: NightSummary, day: date, user: str) -> None:
    """Print the models' metrics, the reconciled counts and one user's candidates.

    Args:
        store: where the night's manifests are.
        night: the decision and the scores.
        day: the date whose impressions were built.
        user: the name of the user column.
    """
    console.print()
    metrics, judged = night.decision.metrics, night.decision.judged or str(day)
    console.print(metrics_table(metrics, judged, night.nightly.metric))
    for line in (share_of_possible(metrics, night.encoder), night.baseline):
        if line:
            console.print(f"  {line}")
    impressions_reconciled(unsampled_examples(store, day), night.per_positive)
    trained = versions.load(night.model, night.decision.version)[1]
    reconciled(
        f"manifest rows of version {night.decision.version}", trained.rows, read=trained.rows_read
    )
    if night.scores:
        _candidates_reconciled(night.scores)
    if night.explained:
        _print_best(night.explained, user)


def _candidates_reconciled(scores: Manifest) -> None:
    offered, refused = scores.facts["candidates"], scores.facts["refused"]
    parts = {"scores": scores.rows, "refused": refused, "erased": scores.erased}
    parts["below_top"] = scores.facts.get("below_top", 0)
    reconciled(f"candidates for {scores.date}", offered, **parts)


def metrics_table(results: Metrics, day: str, by: str) -> Table:
    """Return a table of models and baselines on the same rows of ``day``, best first by ``by``."""
    table = Table(title=f"Evaluated on {day}, which none of them saw", title_justify="left")
    table.add_column("")
    for name in METRICS.values():
        table.add_column(name, justify="right")
    for name, numbers in metric_rows(results, by):
        table.add_row(name, *numbers)
    return table


def share_of_possible(results: Metrics, encoder: str) -> str:
    """Return the share of the reference's AUC above chance that the model reaches."""
    if "reference" not in results:
        return ""
    share = relative_improvement(results[encoder]["auc"], results["reference"]["auc"]) + 1
    if share != share:
        return ""
    return f"(AUC - 0.5) / (best possible AUC - 0.5) = {share:.3f}"


def impressions_reconciled(examples: Manifest, per_positive: int) -> None:
    """Print how a day's impressions and sampled negatives divide into examples and quarantine."""
    reasons = examples.facts["funnel"]["impressions"]
    shown, drawn = sum(reasons.values()), reasons["good"] * per_positive
    what = f"impressions of {examples.date}" + (f" and {drawn:,} drawn rows:" if drawn else "")
    quarantined = shown - reasons["good"]
    reconciled(
        what, shown + drawn,
        examples=examples.rows, quarantined=quarantined, erased=examples.erased,
    )  # fmt: skip


def reconciled(what: str, total: int, **parts: int) -> None:
    """Print a number and the parts that must add up to it, with erased and cut rows if any."""
    seldom = ("erased", "below_top")
    parts = {name: count for name, count in parts.items() if count or name not in seldom}
    sign = "=" if total == sum(parts.values()) else "≠"
    terms = " + ".join(f"{name} {count:,}" for name, count in parts.items())
    console.print(f"  {what} {total:,} {sign} {terms}")


def _print_best(best: Explained, user: str) -> None:
    console.print(f"\n  {user} {best.user}: best candidates, and what weighed most", style="bold")
    for offer in best.offers:
        console.print(f"  {offer.rank}. {offer.item}   score {offer.score:.3f}")
        for why in offer.explanations:
            console.print(f"       {why.weight:.3f}  {why.kind}: {why.behaviour}")
