"""Remove the files of superseded runs and of killed jobs that are older than store.keep.

    python -m jobs.vacuum --config conf/demo.yaml [store.keep=1d]

Published runs are kept at any age, and so are the examples of registered versions and of runs in
MLflow that have not ended. Files that no job published are kept for a day at least, because a
running job may be writing them.
"""

from datetime import date

from din_model.config import duration
from din_model.console import console
from din_model.registry import tracking, versions
from jobs.cli import Settings, main
from pipelines.store.store import Store


def run(settings: Settings, day: date | None) -> None:
    store = Store(settings.store.path)
    tracking.connect(settings.tracking, store.url)
    trained = versions.runs(settings.tracking.model)
    pinned = tracking.runs_of_inputs({*trained, *tracking.open_runs(settings.tracking)})
    removed = store.vacuum(duration(settings.store.keep), pinned)
    console.print(f"  {store.url}: {removed} files removed")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
