"""Run one night: build missing dates, train, evaluate, gate, and score the next date.

    python -m jobs.nightly --config conf/demo.yaml --date 2026-11-22 [nightly.wait=6h]

The default date is yesterday in the time zone of the logs. With nightly.wait the job waits for late
logs and candidates. A store on local disk runs one night at a time. conf/schedule has recipes for
cron, Airflow, Kubernetes and others. The night's report is reports/D.html in the store.

A rerun is safe: published dates are not built again, a recorded night keeps its version, and only
the gate moves the alias (python -m jobs.rollback moves it back).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

from din_model.config import to_dict
from din_model.console import Stage, console, recorded
from din_model.errors import InputError
from din_model.registry import tracking
from jobs.cli import Settings, main
from pipelines.examples.origin import is_built
from pipelines.ingest.logs import DAY, Logs
from pipelines.observe.night import NightRecord
from pipelines.observe.watch import watched_night
from pipelines.reports.explanation import explain_user
from pipelines.reports.nightly import NightSummary, publish_report
from pipelines.reports.terminal import print_night
from pipelines.scoring.guards import Breach
from pipelines.scoring.score_date import ModelVersion, score_day
from pipelines.sensor import await_logs, lost_before
from pipelines.store.store import Store
from pipelines.training.gate import Decision, NightSections, StoppedError, decide
from pipelines.training.training_set import training_days


def run(settings: Settings, day: date | None) -> None:
    if settings.history.cutoff != "day" or settings.split.by != "date":
        raise InputError(
            "jobs.nightly scores whole days: history.cutoff must be day, split.by date"
        )
    day = day or datetime.now(ZoneInfo(settings.spec.time_zone)).date() - DAY
    store, model = Store(settings.store.path), settings.tracking.model
    with (
        store.locked("night", "another night is running in this store"),
        watched_night(settings.observe, model, day) as record,
    ):
        _night(settings, day, record)


def _night(settings: Settings, day: date, record: NightRecord) -> None:
    logs, store = settings.open("nightly", day)
    console.print(f"Night of {day}", style="bold")
    await_logs(logs.spark, logs.sources, settings.nightly, day, is_built(store, day))
    lost = lost_before(
        logs.spark, store, settings.sources, settings.history.since, settings.train.window, day
    )
    settings = settings.passing_over(lost)
    logs = replace(logs, sources=settings.sources)
    look = tracking.connect(settings.tracking, store.url)
    days = training_days(
        settings.train, settings.split, day, settings.history.since, settings.sources.lost_dates
    )
    sections = NightSections(
        settings.nightly, settings.train, settings.split, settings.launch, settings.tracking
    )
    run = tracking.run(f"night {day}", {"job": "nightly"}, to_dict(settings))
    with run, recorded() as record.stages:
        settings.build_missing(store, [*days, day])
        try:
            decision = decide(logs.spark, store, sections, days, day)
        except StoppedError as stopped:
            night = summary(settings, stopped.decision, record.stages)
            record.summary = night(scores=None, explained=None)
            report(logs, store, record.summary, day)
            raise
        console.print(f"  gate: {decision.why}")
        score_and_report(settings, logs, store, decision, record)
    console.print(f"  Runs and models: {look}")


def score_and_report(
    settings: Settings, logs: Logs, store: Store, decision: Decision, record: NightRecord
) -> None:
    """Score the next date, then report the night, also if a guard holds the scores back."""
    night, version = summary(settings, decision, record.stages), decision.version
    day, record.summary = record.day, night(scores=None, explained=None)
    try:
        scores = score_day(
            logs, store, ModelVersion(settings.tracking.model, version), settings.score, day + DAY,
            settings.candidates,
        )  # fmt: skip
    except Breach as breach:
        record.summary = night(
            scores=breach.held, explained=None, breach=str(breach), breached=breach.names
        )
        report(logs, store, record.summary, day)
        raise
    best = explain_user(logs, store, scores, day)
    record.summary = night(scores=scores, explained=best)
    report(logs, store, record.summary, day)


def summary(
    settings: Settings, decision: Decision, stages: Sequence[Stage]
) -> "partial[NightSummary]":
    """Return the summary of a night, which lacks ``scores`` and ``explained``."""
    negatives = settings.build.negatives
    return partial(
        NightSummary, settings.tracking.model, decision, stages=stages, nightly=settings.nightly,
        guards=settings.score.guards, encoder=settings.train.model.encoder,
        per_positive=negatives.per_positive if negatives else 0,
    )  # fmt: skip


def report(logs: Logs, store: Store, night: NightSummary, day: date) -> None:
    """Print the night, and write and log its report."""
    print_night(store, night, day, logs.spec[logs.spec.user].log_name)
    console.print(f"\n  Report: {publish_report(store, night, day)}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
