"""One date built in a run of its own: what build_sequences and nightly share."""

from datetime import date

from din_model import registry
from din_model.config import to_dict
from jobs.settings import Settings
from pipelines.build import build_day
from pipelines.dataset import Manifest, Store
from pipelines.logs import Logs


def build(settings: Settings, logs: Logs, store: Store, day: date) -> Manifest:
    """Build and publish a date; its quality and its funnel are logged, also where it fails."""
    with registry.run(f"build {day}", {"job": "build_sequences"}, to_dict(settings)):
        manifest = build_day(logs, store, settings.build, settings.split, day, registry.log_metrics)
        registry.log_dict(manifest.facts["funnel"], "funnel")
    return manifest
