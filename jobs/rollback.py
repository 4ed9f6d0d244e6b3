"""Move the alias champion back to the previous champion.

    python -m jobs.rollback --config conf/demo.yaml

Published scores do not change until jobs.score runs for their date.
"""

from datetime import date

from din_model.console import console
from din_model.registry import tracking, versions
from jobs.cli import Settings, main
from pipelines.store.store import Store


def run(settings: Settings, day: date | None) -> None:
    tracking.connect(settings.tracking, Store(settings.store.path).url)
    before, now = versions.rollback(settings.tracking.model)
    console.print(f"  {settings.tracking.model}: champion was version {before}, is version {now}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
