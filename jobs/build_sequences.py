"""Build one date: raw logs -> vocabulary, state and examples.

    python -m jobs.build_sequences --config conf/demo.yaml --date 2026-11-22 [history.length=100 …]

A date that is built already is built again, and published in place of the old run.
"""

from datetime import date

from din_model import registry
from din_model.progress import console
from jobs.building import build
from jobs.settings import Settings, main


def run(settings: Settings, day: date) -> None:
    logs, store = settings.open("build_sequences", day)
    look = registry.connect(settings.tracking, store.url)
    manifest = build(settings, logs, store, day)
    console.print(f"  published {manifest.id}, {manifest.rows:,} rows; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
