"""A challenger trained on the ranks asked for: what train and nightly share."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from functools import partial

from din_model import distributed, registry
from din_model.progress import console
from din_model.registry import TrackingConfig
from jobs.launching import on_ranks
from jobs.settings import Settings
from pipelines.challenger import Challenge, Metrics, train_challenger
from pipelines.dataset import Store
from pipelines.night import Decision, decide
from pipelines.session import spark_session
from pipelines.window import Window


def challenge(
    settings: Settings, store: Store, window: Window, start: int | None = None
) -> tuple[int, Metrics]:
    """See pipelines.challenger.train_challenger; what it logs goes to the active run."""
    work = partial(train_challenger, store, window, settings.train, settings.tracking.model, start)
    if settings.launch.launcher != "local":
        # Ranks may lack the environment that names the server here.
        tracking = replace(settings.tracking, uri=registry.address())
        work = partial(_joined, tracking, registry.active(), store.url, work)
    if settings.launch.launcher == "spark":
        spark_session("train", window.spec.time_zone)  # TorchDistributor takes the active one
    return on_ranks(settings.launch, store.url, work)


def gated(settings: Settings, store: Store, days: list[date], day: date) -> Decision:
    """See pipelines.night.decide."""
    decision = decide(
        store, settings.train, settings.nightly, settings.split, days, settings.tracking.model,
        day, partial(challenge, settings),
    )  # fmt: skip
    console.print(f"  gate: {decision.why}")
    return decision


def _joined(
    tracking: TrackingConfig, run: str | None, store_url: str, work: Challenge
) -> tuple[int, Metrics]:
    """Do the work as a rank among others; rank 0 goes on with the run of whoever launched it."""
    with distributed.process_group():
        first = distributed.rank() == 0
        console.quiet = not first
        registry.connect(tracking, store_url)
        with registry.rejoined(run) if first and run else nullcontext():
            return work()
