"""Compare interest encoders at several dimensions, on the data of a date, and write a report.

    python -m jobs.compare --config conf/datasets/beauty.yaml [compare.dimensions=[4,8,16,32] …]

Builds what is not built of the date and the window before it, trains every cell of
compare.encoders x dimensions x seeds on the window, judges it on the date, and logs it as a run
nested in one; nothing is registered. The report (report.html and report.md) lies in compare.report.
"""

from datetime import date
from pathlib import Path

from din_model import registry
from din_model.config import to_dict
from din_model.progress import console
from jobs.building import build_missing
from jobs.settings import Settings, main
from pipelines.compare import run_grid
from pipelines.compare_report import REPORTS, findings, write_report
from pipelines.dataset import Store
from pipelines.window import open_window, window_days


def run(settings: Settings, day: date) -> None:
    store, grid, train = Store(settings.store.path), settings.compare, settings.train
    look = registry.connect(settings.tracking, store.url)
    days = window_days(train, settings.split, day, settings.history.since)
    with registry.run(f"compare {day}", {"job": "compare"}, to_dict(settings)):
        build_missing(settings, store, [*days, day])
        window = open_window(store, days, settings.split, day, train.patience)
        cells, models, sample = run_grid(
            store, window, train, grid,
            lambda name: registry.run(name, {"job": "compare"}, {}), registry.log_metrics,
        )  # fmt: skip
        folder, title = Path(grid.report), f"{settings.tracking.model}: encoders by dimension"
        figures = write_report(folder, store, title, grid, cells, models, sample)
        for name, figure in figures.items():
            registry.log_figure(figure, name)
        for name in REPORTS:
            registry.log_file(folder / name)
    for line in findings(cells, grid):
        console.print(f"  {line}")
    console.print(f"  report: {folder / REPORTS[0]}; runs: {look}")


if __name__ == "__main__":
    main(run, __doc__)
