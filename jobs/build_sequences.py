"""Build one date: raw logs -> vocabulary, state and examples.

    python -m jobs.build_sequences --config conf/demo.yaml --date 2026-11-22 [history.length=100 …]

A date that is built already is built again, and published in place of the old run.
"""

from datetime import date

from din_model import registry
from din_model.config import to_dict
from din_model.progress import console
from jobs.settings import Settings, main
from pipelines.build import build_day


def run(settings: Settings, day: date) -> None:
    logs, store = settings.open("build_sequences")
    look = registry.connect(settings.tracking, store.url)
    with registry.run(f"build {day}", {"job": "build_sequences"}, to_dict(settings)):
        manifest = build_day(logs, store, settings.build, settings.split, day)
        registry.log_dict(manifest.facts["funnel"], "funnel")
        registry.log_metrics({"examples": manifest.rows})
    console.print(f"  published {manifest.id}, {manifest.rows:,} rows; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
