"""What a date is made of: whether it is built, current, or rests on superseded runs."""

from datetime import date
from typing import Any

from din_model.config import to_dict
from din_model.console import console
from din_model.errors import InputError
from din_model.features import FeatureSpec
from pipelines.examples.event_sums import parent_sums
from pipelines.examples.publish import BuildConfig
from pipelines.examples.split import SplitConfig
from pipelines.ingest.logs import DAY, Logs
from pipelines.ingest.reading import fingerprint
from pipelines.store import plan
from pipelines.store.data_sets import COUNTS, PINS, STATE
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store


def is_built(store: Store, day: date) -> bool:
    """Return whether everything of a date is published and belongs together."""
    return plan.rests_on_published(store, store.manifest(COUNTS, day))


def is_current(
    logs: Logs, store: Store, config: BuildConfig, split: SplitConfig, day: date
) -> bool:
    """Return whether a rebuild of a date would read the same logs, state and settings."""
    if not is_built(store, day):
        return False
    parent, first = parent_state(store, logs.spec, day)
    frames = [logs.impressions(split.since(day), day), logs.behaviours(first, day)]
    counted = parent_sums(store, logs.spec, parent, split)
    now = origin_of(logs, parent, counted, config, split)
    now |= {"inputs": fingerprint(logs.spark, frames)}
    return plan.made_of(store.manifest(STATE, day), now)


def origin_of(
    logs: Logs, parent: Manifest | None, sums: Manifest | None, config: BuildConfig,
    split: SplitConfig,
) -> dict[str, Any]:  # fmt: skip
    """Return what the rows of a date depend on, besides the logs."""
    not_in_rows = {"first", "max_broken", "quality"}
    return {
        "spec": logs.spec.to_json(),
        "spec_hash": logs.spec.hash,
        PINS: plan.pins(parent, sums),
        "build": {n: v for n, v in to_dict(config).items() if n not in not_in_rows},
        "split": to_dict(split),
    }


def parent_state(store: Store, spec: FeatureSpec, day: date) -> tuple[Manifest | None, date | None]:
    """Return the newest state before ``day``, and the first day that it does not cover.

    Raises:
        InputError: that state was built with another spec.
    """
    parent = store.before(STATE, day)
    if parent is None:
        return None, None
    if parent.facts["spec_hash"] != spec.hash:
        raise InputError(
            f"{store.url}/{STATE}: the state of {parent.date} was built with spec"
            f" {parent.facts['spec_hash']}, but the configuration has {spec.hash}: use another"
            " store.path, or restore features and history"
        )
    return parent, date.fromisoformat(parent.date) + DAY


def print_stale(store: Store, day: date) -> None:
    """Print the later dates whose parent state is no longer the published one."""
    if listed := ", ".join(m.date for m in plan.stale(store.manifests(STATE))):
        console.print(f"  built on a superseded state, rebuild if {day} changed: {listed}")
