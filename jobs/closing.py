"""How a night ends: the scores, and what a person reads of it, in the terminal and as a page."""

from collections.abc import Sequence
from datetime import date
from functools import partial

from rich.table import Table

from din_model import registry
from din_model.progress import Stage, console
from jobs.settings import Settings
from pipelines import report
from pipelines.challenger import Metrics
from pipelines.dataset import Manifest, Store
from pipelines.examples import whole
from pipelines.explained import Explained, explained_user
from pipelines.guards import Breach
from pipelines.logs import DAY, Logs
from pipelines.night import Decision
from pipelines.scoring import score_day


def score_and_close(
    settings: Settings, logs: Logs, store: Store, day: date, decision: Decision,
    stages: Sequence[Stage],
) -> None:  # fmt: skip
    """Score the next date, then close the night, also where a guard holds the scores back."""
    model, version, rules = settings.tracking.model, decision.version, settings.candidates
    close = partial(close_night, settings, logs, store, day, decision, stages)
    try:
        close(score_day(logs, store, model, version, settings.score, day + DAY, rules))
    except Breach as breach:
        close(breach.held, str(breach))
        raise


def close_night(
    settings: Settings, logs: Logs, store: Store, day: date, decision: Decision,
    stages: Sequence[Stage], scores: Manifest, breach: str = "",
) -> None:  # fmt: skip
    """Print how the day was judged and that its counts reconcile; write and log the report.

    Args:
        scores: published, or held back because of a ``breach``.
    """
    console.print()
    console.print(metrics_table(decision.metrics, decision.judged or str(day)))
    console.print(f"  {share_of_possible(decision.metrics, settings.train.model.encoder)}")
    examples, model = whole(store, day), settings.tracking.model
    negatives = settings.build.negatives
    impressions_reconciled(examples, negatives.per_positive if negatives else 0)
    trained = registry.load(model, decision.version)[1]
    reconciled(f"manifest rows of version {decision.version}", trained.rows, read=trained.rows_read)
    offered, refused = scores.facts["candidates"], scores.facts["refused"]
    parts = {"scores": scores.rows, "refused": refused, "erased": scores.erased}
    parts["below_top"] = scores.facts.get("below_top", 0)
    reconciled(f"candidates for {scores.date}", offered, **parts)
    best = None if breach else explained_user(logs, store, scores, day)
    if best:
        _print_best(best, logs.spec.user)
    guards, nightly = settings.score.guards, settings.nightly
    told = report.Told(model, decision, scores, stages, best, nightly, guards, breach)
    page = report.page(store, told, day)
    registry.log_text(page, "report.html")
    advice = "".join(f"\n- {line}" for line in report.advice(told, examples))
    registry.describe_run(f"Gate: {decision.why}.\n{advice}\n\nMore is in report.html.")
    console.print(f"\n  Report: {store.put(f'{report.NAME}/{day}.html', page)}", markup=False)


def metrics_table(results: Metrics, day: str) -> Table:
    """One line a model or baseline; all judged on the same rows."""
    table = Table(title=f"Judged on {day}, which none of them saw", title_justify="left")
    table.add_column("")
    for name in report.METRICS.values():
        table.add_column(name, justify="right")
    for name, numbers in report.metric_rows(results):
        table.add_row(name, *numbers)
    return table


def share_of_possible(results: Metrics, encoder: str) -> str:
    """How much of the reference's AUC above chance the model reaches."""
    if "reference" not in results:
        return ""
    share = (results[encoder]["auc"] - 0.5) / (results["reference"]["auc"] - 0.5)
    return f"(AUC - 0.5) / (best possible AUC - 0.5) = {share:.3f}"


def impressions_reconciled(examples: Manifest, per_positive: int) -> None:
    """Print what a day's impressions, and the rows drawn for each good one, have become."""
    reasons = examples.facts["funnel"]["impressions"]
    shown, drawn = sum(reasons.values()), reasons["good"] * per_positive
    what = f"impressions of {examples.date}" + (f" and {drawn:,} drawn rows:" if drawn else "")
    quarantined = shown - reasons["good"]
    reconciled(
        what, shown + drawn,
        examples=examples.rows, quarantined=quarantined, erased=examples.erased,
    )  # fmt: skip


def reconciled(what: str, total: int, **parts: int) -> None:
    """Print a number and the parts that must add up to it; erased and cut ones if there are."""
    seldom = ("erased", "below_top")
    parts = {name: count for name, count in parts.items() if count or name not in seldom}
    sign = "=" if total == sum(parts.values()) else "≠"
    told = " + ".join(f"{name} {count:,}" for name, count in parts.items())
    console.print(f"  {what} {total:,} {sign} {told}")


def _print_best(best: Explained, user: str) -> None:
    console.print(f"\n  [bold]{user} {best.user}[/]: best candidates, and what weighed most")
    for offer in best.offers:
        console.print(f"  {offer.rank}. {offer.item}   score {offer.score:.3f}")
        for why in offer.because:
            console.print(f"       {why.weight:.3f}  {why.kind}: {why.behaviour}")
