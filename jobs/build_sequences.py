"""Build one date or a range of dates: raw logs -> vocabulary, state and examples.

    python -m jobs.build_sequences --config conf/demo.yaml --date 2026-11-22 [history.length=100 …]
    python -m jobs.build_sequences --config conf/demo.yaml --date 2026-11-22 build.first=2026-11-19

A date that is already built is built again, and the new run replaces the old one. In a range, a
date is skipped if its logs, the state before it and its settings are unchanged. An interrupted
backfill therefore continues where it stopped, and a changed date causes all later ones to be built.
"""

from datetime import date

from din_model.config import to_dict
from din_model.console import console
from din_model.errors import InputError
from din_model.registry import tracking
from jobs.cli import Settings, main
from pipelines.examples.origin import is_current
from pipelines.examples.tracked_build import tracked_build
from pipelines.ingest.sources import days_between


def run(settings: Settings, day: date) -> None:
    logs, store = settings.open("build_sequences", settings.build.first or day)
    look = tracking.connect(settings.tracking, store.url)
    days = days_between(settings.build.first or day, day)
    if not days:
        raise InputError(f"build.first: {settings.build.first} is after --date {day}")
    for each in days:
        if len(days) > 1 and each in settings.sources.lost_dates:
            console.print(f"  {each} is lost (sources.lost_dates)")
            continue
        if len(days) > 1 and is_current(logs, store, settings.build, settings.split, each):
            console.print(f"  {each} is built from the same logs already")
            continue
        manifest = tracked_build(
            logs, store, settings.build, settings.split, each, to_dict(settings)
        )
        console.print(f"  published {manifest.id}, {manifest.rows:,} rows; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
