"""Erase users from all published data: examples, states, scores, broken rows.

    python -m jobs.erase --config conf/demo.yaml 'erase.users=[u0000007, u0000042]'

Remove the users from the raw logs first, because a later build reads them again. Superseded runs
are removed at once. Earlier models keep an embedding row for the id, but no data links it to the
user any more.
"""

from datetime import date

from din_model.console import console
from din_model.errors import InputError
from jobs.cli import Settings, main
from pipelines.erasure import erase
from pipelines.session import spark_session
from pipelines.store.store import Store

NOT_REACHED = (
    "raw logs, tables delivered elsewhere, and the weights of earlier models, whose ids nothing"
    " ties to a user any more"
)


def run(settings: Settings, day: date | None) -> None:
    users = settings.erase.users
    if not users:
        raise InputError("erase.users: name at least one user")
    spark = spark_session("erase", settings.spec.time_zone)
    removed = erase(spark, Store(settings.store.path), settings.build, users)
    if not any(removed.values()):
        raise InputError(f"erase.users: nothing is known of {', '.join(users)}")
    console.print(f"  {len(users)} users erased: {sum(removed.values()):,} rows")
    console.print(f"  not reached: {NOT_REACHED}")


if __name__ == "__main__":
    main(run, __doc__, dated=False)
