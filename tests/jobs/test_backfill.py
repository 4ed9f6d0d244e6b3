"""A range of dates is built in order; what is built from the same logs already is left alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from din_model.errors import InputError
from jobs import build_sequences
from pipelines.store.store import Store
from tests.nights import NIGHTS, rows


@contextmanager
def delivered_again(folder: Path) -> Iterator[None]:
    """The files as if they had been written later; others look at them too, so not for long."""
    times = {path: path.stat() for path in folder.iterdir()}
    for path in times:
        os.utime(path, (2_000_000_000, 2_000_000_000))
    try:
        yield
    finally:
        for path, was in times.items():
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


@pytest.mark.slow
def test_a_range_builds_what_changed_and_all_after_it(spark, nights, tmp_path):
    settings, store, _ = nights
    shutil.copytree(store.base, tmp_path / "store")
    first, *_, last = days = store.dates("examples")
    assert days == [date(2026, 11, 19), *NIGHTS]
    settings = replace(
        settings,
        store=replace(settings.store, path=str(tmp_path / "store")),
        build=replace(settings.build, first=first),
    )
    copy = Store(settings.store.path)

    def runs() -> list[str]:
        return [m.run for m in copy.manifests("examples")]

    before = runs()
    build_sequences.run(settings, last)
    assert runs() == before, "nothing changed"

    # The third date's table of items is delivered again. The fourth hangs on the third's state.
    with delivered_again(Path(f"{settings.generate.path}/items/date={days[2]}")):
        build_sequences.run(settings, last)
    after = runs()
    assert after[:2] == before[:2]
    assert not set(after[2:]) & set(before)
    parent = copy.require("state", days[2], "")
    assert copy.require("state", last, "").facts["pins"]["state"] == [parent.id]
    for name in ("examples", "state", "counts"):
        mine, theirs = copy.require(name, last, ""), store.require(name, last, "")
        assert rows(copy.read(spark, [mine])) == rows(store.read(spark, [theirs]))

    with pytest.raises(InputError, match=r"build\.first: 2026-11-19 is after --date 2026-11-18"):
        build_sequences.run(settings, date(2026, 11, 18))
