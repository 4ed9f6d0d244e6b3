"""One night: build the date and what its window lacks, train, judge, gate, score the next date.

    python -m jobs.nightly --config conf/demo.yaml --date 2026-11-22

Safe to run again: published dates are not built again, a recorded night keeps its version, and the
alias moves only through the gate (python -m jobs.rollback takes it back).
"""

from datetime import date
from functools import partial

from din_model import registry
from din_model.config import to_dict
from din_model.errors import InputError
from din_model.progress import console
from jobs.building import build_missing
from jobs.closing import close_night
from jobs.settings import Settings, main
from jobs.training import challenge
from pipelines.logs import DAY
from pipelines.night import decide
from pipelines.scoring import score_day
from pipelines.window import window_days


def run(settings: Settings, day: date) -> None:
    if settings.history.cutoff != "day" or settings.split.by != "date":
        raise InputError(
            "jobs.nightly scores whole days: history.cutoff must be day, split.by date"
        )
    logs, store = settings.open("nightly", day)
    look = registry.connect(settings.tracking, store.url)
    name, since = settings.tracking.model, settings.history.since
    days = window_days(settings.train, settings.split, day, since)
    console.print(f"[bold]Night of {day}[/]")
    with registry.run(f"night {day}", {"job": "nightly"}, to_dict(settings)):
        build_missing(settings, store, [*days, day])
        decision = decide(
            store, settings.train, settings.nightly, settings.split, since, name, day,
            partial(challenge, settings),
        )  # fmt: skip
        console.print(f"  gate: {decision.why}")
        scores = score_day(
            logs, store, name, decision.version, settings.score, day + DAY, settings.candidates
        )
    close_night(logs, store, name, settings.train.model.encoder, decision, scores, day)
    console.print(f"\n  Runs and models: {look}")


if __name__ == "__main__":
    main(run, __doc__)
