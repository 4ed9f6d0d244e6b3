"""Dates built, each in a run of its own: what build_sequences, nightly and compare share."""

from collections.abc import Iterable
from datetime import date

from din_model import registry
from din_model.config import to_dict
from jobs.settings import Settings
from pipelines.build import build_day, is_built
from pipelines.dataset import Manifest, Store
from pipelines.logs import Logs


def build(settings: Settings, logs: Logs, store: Store, day: date) -> Manifest:
    """Build and publish a date; its quality and its funnel are logged, also where it fails."""
    with registry.run(f"build {day}", {"job": "build_sequences"}, to_dict(settings)):
        manifest = build_day(logs, store, settings.build, settings.split, day, registry.log_metrics)
        registry.log_dict(manifest.facts["funnel"], "funnel")
    return manifest


def build_missing(settings: Settings, store: Store, days: Iterable[date]) -> None:
    """Build the dates that are not built yet, in order; Spark starts only where there are any."""
    for day in days:
        if not is_built(store, day):
            logs, _ = settings.open("build", day)
            build(settings, logs, store, day)
