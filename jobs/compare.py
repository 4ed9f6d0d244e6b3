"""Compare interest encoders at several dimensions, on the data of a date, and write a report.

    python -m jobs.compare --config conf/datasets/beauty.yaml [compare.dimensions=[4,8,16,32] …]

Builds the dates that are missing, trains every cell of compare.encoders x dimensions x seeds on the
training set, evaluates it on the date, and logs it as a nested run. Nothing is registered. The
report (report.html and report.md) is written to compare.report.
"""

from datetime import date
from pathlib import Path

from din_model.config import to_dict
from din_model.console import console
from din_model.registry import tracking
from jobs.cli import Settings, main
from pipelines.reports.comparison import REPORTS, findings, write_report
from pipelines.store.store import Store
from pipelines.training.grid import run_grid
from pipelines.training.training_set import open_training_set, training_days


def run(settings: Settings, day: date) -> None:
    store, grid, train = Store(settings.store.path), settings.compare, settings.train
    look = tracking.connect(settings.tracking, store.url)
    days = training_days(
        train, settings.split, day, settings.history.since, settings.sources.lost_dates
    )
    with tracking.run(f"compare {day}", {"job": "compare"}, to_dict(settings)):
        settings.build_missing(store, [*days, day])
        training_set = open_training_set(store, days, settings.split, day, train.patience)
        cells, models, sample = run_grid(
            store, training_set, train, grid,
            lambda name: tracking.run(name, {"job": "compare"}, {}), tracking.log_metrics,
        )  # fmt: skip
        folder, title = Path(grid.report), f"{settings.tracking.model}: encoders by dimension"
        figures = write_report(folder, store, title, grid, cells, models, sample)
        for name, figure in figures.items():
            tracking.log_figure(figure, name)
        for name in REPORTS:
            tracking.log_file(folder / name)
    for line in findings(cells, grid):
        console.print(f"  {line}")
    console.print(f"  report: {folder / REPORTS[0]}; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
