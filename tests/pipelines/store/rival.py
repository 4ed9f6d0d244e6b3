"""A process that publishes date after date at the same moment as another one.

    python -m tests.pipelines.store.rival STORE FOLDER NAME OTHER DATES

Both wait for each other in FOLDER before each date, and then publish as many rows as their name
has letters. Prints a line per date: ``won``, or the error.
"""

import sys
import time
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame

from din_model.errors import InputError
from pipelines.session import spark_session
from pipelines.store.store import Store

FIRST = date(2026, 11, 1)


def meet(folder: Path, name: str, other: str, at: str) -> None:
    (folder / f"{name}-{at}").touch()
    limit = time.monotonic() + 60
    while not (folder / f"{other}-{at}").exists():
        if time.monotonic() > limit:
            raise TimeoutError(f"{other} does not come")
        time.sleep(0.001)


def publish(store: Store, rows: DataFrame, day: date, folder: Path, name: str, other: str) -> str:
    def wait(_: object) -> None:
        meet(folder, name, other, f"{day}-written")

    with store.job():
        meet(folder, name, other, f"{day}-begun")
        try:
            store.publish("scores", day, rows, {"by": name}, wait)
            return "won"
        except InputError as error:
            return str(error)


def main(root: str, folder: str, name: str, other: str, dates: str) -> None:
    spark = spark_session("rival", "UTC")
    rows = spark.range(0, len(name), 1, 1).cache()
    for number in range(int(dates)):
        day = FIRST + timedelta(days=number)
        print(publish(Store(root), rows, day, Path(folder), name, other), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
