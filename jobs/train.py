"""Train on the window before a date, judge on the date, log and register the model.

    python -m jobs.train --config conf/demo.yaml --date 2026-11-22 [train.epochs=2 …]
    python -m jobs.train --config … --date … launch.launcher=torchrun launch.ranks=2
    torchrun --nproc-per-node 2 -m jobs.train --config conf/demo.yaml --date 2026-11-22

The alias ``champion`` does not move: only the gate of jobs.nightly moves it.
"""

from contextlib import nullcontext
from datetime import date

from din_model import distributed, registry
from din_model.config import to_dict
from din_model.progress import console
from jobs.closing import metrics_table
from jobs.settings import Settings, main
from jobs.training import challenge
from pipelines.dataset import Store
from pipelines.window import open_window, window_days


def run(settings: Settings, day: date) -> None:
    with distributed.process_group():
        first = distributed.rank() == 0
        console.quiet = not first
        store = Store(settings.store.path)
        if first:
            look = registry.connect(settings.tracking, store.url)
        distributed.barrier()
        days = window_days(settings.train, settings.split, day, settings.history.since)
        window = open_window(store, days, settings.split, day, settings.train.patience)
        tracked = registry.run(f"train {day}", {"job": "train"}, to_dict(settings))
        with tracked if first else nullcontext():
            version, results = challenge(settings, store, window)
        if first:
            console.print(metrics_table(results, str(day)))
            console.print(f"  {settings.tracking.model} version {version}; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
