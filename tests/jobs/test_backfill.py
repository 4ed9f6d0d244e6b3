"""A range of dates is built in order; what is built from the same logs already is left alone."""

from dataclasses import replace
from datetime import date

import pytest

from din_model.config import load
from din_model.errors import InputError
from jobs import build_sequences
from jobs.settings import Settings
from pipelines.dataset import Store
from pipelines.synthetic import generate
from tests.jobs.conftest import SMALL, demo

FIRST, LAST = date(2026, 11, 19), date(2026, 11, 20)


def runs(store: Store) -> list[str]:
    return [m.run for m in store.manifests("examples")]


def test_a_backfill_builds_what_is_not_built_or_changed_and_all_after_it(
    spark, tmp_path, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = load(Settings, [demo(tmp_path)], [*SMALL, "generate.days=2"])
    assert settings.generate is not None
    generate(spark, settings.generate)
    ranged = replace(settings, build=replace(settings.build, first=FIRST))
    store = Store(settings.store.path)

    # Cut short after the first date: the range goes on with the second.
    build_sequences.run(settings, FIRST)
    first = runs(store)
    build_sequences.run(ranged, LAST)
    done = runs(store)
    assert len(done) == 2 and done[:1] == first
    build_sequences.run(ranged, LAST)
    assert runs(store) == done, "nothing changed"

    # A click log of the first date is delivered again, and has one half of what it had.
    log = next((tmp_path / "out/demo/logs/clicks" / f"date={FIRST}").glob("*.json"))
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[: len(lines) // 2]))
    log.with_name(f".{log.name}.crc").unlink()
    clicked = store.read(spark, store.manifests("examples")[:1]).where("label = 1").count()
    build_sequences.run(ranged, LAST)
    assert not set(runs(store)) & set(done), "the second date hangs on the first"
    again = store.read(spark, store.manifests("examples")[:1]).where("label = 1").count()
    assert 0 < again < clicked
    parent = store.require("state", LAST, "").facts["parent"]
    assert parent == store.require("state", FIRST, "").id
    with pytest.raises(InputError, match=r"build\.first: 2026-11-19 is after --date 2026-11-18"):
        build_sequences.run(ranged, date(2026, 11, 18))
