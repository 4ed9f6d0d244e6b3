"""Generate raw logs from a seed, to try the pipeline without private data.

    python -m jobs.generate_logs --config conf/demo.yaml [generate.users=100000 …]

Writes impressions, clicks, items, users and daily candidate tables according to the section
``generate``. Existing logs with the same parameters are kept.
"""

from datetime import date

from din_model.console import stage
from din_model.errors import InputError
from jobs.cli import Settings, main
from pipelines.ingest.synthetic import generate
from pipelines.session import spark_session


def run(settings: Settings, day: date | None) -> None:
    if settings.generate is None:
        raise InputError("generate: the section is missing; conf/demo.yaml shows one")
    spark = spark_session("generate_logs", "UTC")
    with stage("generate logs") as report:
        rows = generate(spark, settings.generate)
        report.rows = sum(rows.values())
        report.note = ", ".join(f"{count:,} {name}" for name, count in rows.items())


if __name__ == "__main__":
    main(run, __doc__, dated=False)
