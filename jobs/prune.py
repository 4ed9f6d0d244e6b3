"""Remove superseded runs and leftovers of killed jobs that are older than store.keep.

    python -m jobs.prune --config conf/demo.yaml [store.keep=1d]

Published runs are kept at any age.
"""

from datetime import date, datetime, timezone

from din_model.config import duration
from din_model.console import console
from jobs.cli import Settings, main
from pipelines.store.store import Store


def run(settings: Settings, day: date | None) -> None:
    store = Store(settings.store.path)
    with store.sole_writer():
        removed = store.prune(datetime.now(timezone.utc) - duration(settings.store.keep))
    console.print(f"  {store.url}: {removed} superseded runs removed")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
