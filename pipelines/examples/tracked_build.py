"""Builds a date in an MLflow run of its own, with its data quality and its counts."""

from datetime import date
from typing import Any

from din_model.registry import tracking
from pipelines.examples.build import build_day
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.ingest.logs import Logs
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


def tracked_build(
    logs: Logs, store: Store, config: BuildConfig, split: SplitConfig, day: date,
    parameters: dict[str, Any],
) -> Manifest:  # fmt: skip
    """Build and publish ``day``; log its data quality, also if the build fails.

    Args:
        logs: the sources and the spec.
        store: where it is published.
        config: how examples are built.
        split: which rows are held out.
        day: the date.
        parameters: the resolved configuration, logged with the run.

    Raises:
        InputError: see examples.build.build_day.
    """
    with tracking.run(f"build {day}", {"job": "build_sequences"}, parameters):
        manifest = build_day(logs, store, config, split, day, tracking.log_metrics)
        tracking.log_dict(manifest.facts["funnel"], "funnel")
    return manifest
