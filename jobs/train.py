"""Train on the days before a date, evaluate on the date, log and register the model.

    python -m jobs.train --config conf/demo.yaml --date 2026-11-22 [train.epochs=2 …]
    python -m jobs.train --config … --date … launch.launcher=torchrun launch.ranks=2
    torchrun --nproc-per-node 2 -m jobs.train --config conf/demo.yaml --date 2026-11-22

The alias ``champion`` does not change: only the gate of jobs.nightly moves it.
"""

from contextlib import nullcontext
from datetime import date

from din_model.config import to_dict
from din_model.console import console
from din_model.distributed import collectives
from din_model.registry import tracking
from jobs.cli import Settings, main
from pipelines.reports.terminal import metrics_table
from pipelines.store.store import Store
from pipelines.training.launch import launch_challenger
from pipelines.training.training_set import open_training_set, training_days


def run(settings: Settings, day: date) -> None:
    with collectives.process_group():
        first = collectives.rank() == 0
        console.quiet = not first
        store = Store(settings.store.path)
        if first:
            look = tracking.connect(settings.tracking, store.url)
        collectives.barrier()
        days = training_days(
            settings.train, settings.split, day, settings.history.since, settings.sources.lost_dates
        )
        training_set = open_training_set(store, days, settings.split, day, settings.train.patience)
        tracked = tracking.run(f"train {day}", {"job": "train"}, to_dict(settings))
        with tracked if first else nullcontext():
            version, results = launch_challenger(
                store, training_set, settings.train, settings.launch, settings.tracking
            )
        if first:
            console.print(metrics_table(results, str(day), settings.nightly.metric))
            console.print(f"  {settings.tracking.model} version {version}; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
