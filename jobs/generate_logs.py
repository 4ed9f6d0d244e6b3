"""Write seeded raw logs, so that everything can be tried without private data.

    python -m jobs.generate_logs --config conf/demo.yaml [generate.users=100000 …]

Impressions, clicks, items, users and daily candidate tables, as section ``generate`` says.
Logs that are there with the same parameters are left as they are.
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
