"""Show what the configuration makes of one date's logs; nothing is built or published.

    python -m jobs.check --config my.yaml --date 2026-11-22

Run it first on new logs. It prints each column with its type and share of missing values, typed
rows, why rows are broken, an example of a history, and warnings. A configuration or a log that a
build would refuse is refused here, too.
"""

from datetime import date

from din_model.console import console
from jobs.cli import Settings, main
from pipelines.reports.log_check import check_logs
from pipelines.reports.log_warnings import CheckConfig


def run(settings: Settings, day: date) -> None:
    logs, _ = settings.open("check", day)
    config = CheckConfig(
        settings.train.batch_size,
        settings.nightly.min_users,
        settings.build.max_broken,
        settings.build.negatives is not None,
    )
    warnings = check_logs(logs, config, day)
    for warning in warnings:
        console.print(f"  warning: {warning}", style="yellow")
    console.print(f"  {len(warnings) or 'no'} warning{'s' if len(warnings) != 1 else ''}")


if __name__ == "__main__":
    main(run, __doc__)
