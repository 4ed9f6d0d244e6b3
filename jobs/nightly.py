"""One night: build the date and what its window lacks, train, judge, gate, score the next date.

    python -m jobs.nightly --config conf/demo.yaml --date 2026-11-22 [nightly.wait=6h]

Without a date it is yesterday's night, by the time zone of the logs. With nightly.wait it waits for
logs and candidates that are late. One night at a time runs in a store; conf/schedule starts it.
What happened stands in the store's reports/D.html.

Safe to run again: published dates are not built again, a recorded night keeps its version, and the
alias moves only through the gate (python -m jobs.rollback takes it back).
"""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from din_model import registry
from din_model.config import to_dict
from din_model.errors import InputError
from din_model.progress import console, recorded
from jobs.building import build_missing
from jobs.closing import score_and_close
from jobs.settings import Settings, main
from jobs.training import gated
from pipelines.arrival import await_logs
from pipelines.build import is_built
from pipelines.dataset import Store
from pipelines.logs import DAY
from pipelines.spec import feature_spec
from pipelines.window import window_days


def run(settings: Settings, day: date | None) -> None:
    if settings.history.cutoff != "day" or settings.split.by != "date":
        raise InputError(
            "jobs.nightly scores whole days: history.cutoff must be day, split.by date"
        )
    zone = feature_spec(settings.features, settings.history).time_zone
    day = day or datetime.now(ZoneInfo(zone)).date() - DAY
    with Store(settings.store.path).locked("night", "another night is running in this store"):
        _night(settings, day)


def _night(settings: Settings, day: date) -> None:
    logs, store = settings.open("nightly", day)
    console.print(f"[bold]Night of {day}[/]")
    await_logs(logs.spark, logs.sources, settings.nightly, day, is_built(store, day))
    look = registry.connect(settings.tracking, store.url)
    days = window_days(settings.train, settings.split, day, settings.history.since)
    run = registry.run(f"night {day}", {"job": "nightly"}, to_dict(settings))
    with run, recorded() as stages:
        build_missing(settings, store, [*days, day])
        decision = gated(settings, store, days, day)
        score_and_close(settings, logs, store, day, decision, stages)
    console.print(f"  Runs and models: {look}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
