"""Give the title of champion back to the version that held it before.

python -m jobs.rollback --config conf/demo.yaml
"""

from datetime import date

from din_model import registry
from din_model.progress import console
from jobs.settings import Settings, main
from pipelines.dataset import Store


def run(settings: Settings, day: date | None) -> None:
    registry.connect(settings.tracking, Store(settings.store.path).url)
    before, now = registry.rollback(settings.tracking.model)
    console.print(f"  {settings.tracking.model}: champion was version {before}, is version {now}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
