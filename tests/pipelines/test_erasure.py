"""An erased user is in no published file; everybody else's rows are what they were."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from din_model.errors import InputError
from din_model.features import FeatureSpec
from jobs import erase as job
from pipelines.erasure import EraseConfig, erase
from pipelines.examples.histories import with_histories
from pipelines.examples.origin import is_built
from pipelines.examples.split import SplitConfig
from pipelines.examples.vocabulary import open_vocabulary
from pipelines.store.data_sets import DATA_SETS, EXAMPLES, HOLDOUT
from pipelines.store.store import CHECKPOINTS, Store
from pipelines.training.training_set import open_training_set
from tests.nights import NIGHTS

BY_ID, BY_KEY = ("state", "examples"), ("scores",)


@pytest.fixture
def copied(nights, tmp_path) -> tuple:
    """The settings, a copy of the three nights' store, and a user who is everywhere in it."""
    settings, store, _ = nights
    shutil.copytree(store.base, tmp_path / "store")
    copy = Store(str(tmp_path / "store"))
    return replace(settings, store=replace(settings.store, path=copy.base)), copy


def someone(spark, store) -> tuple[str, int]:
    """A user (key, id) who was scored and has examples of every day."""
    scored = {r["user_id"] for r in store.read(spark, store.manifests("scores")).collect()}
    vocabulary = open_vocabulary(spark, store)[0].where("vocabulary = 'user_id'").collect()
    ids = {row["key"]: row["id"] for row in vocabulary}
    shown = [
        {r["user_id"] for r in store.read(spark, [m]).select("user_id").distinct().collect()}
        for m in store.manifests("examples")
    ]
    return next((k, ids[k]) for k in sorted(scored) if all(ids.get(k) in s for s in shown))


def others(spark, store, key: str, number: int) -> dict[str, list[str]]:
    """What all other users have, of each data set and date."""
    found = {}
    for name, user in [(n, number) for n in BY_ID] + [(n, key) for n in BY_KEY]:
        for manifest in store.manifests(name):
            rows = store.read(spark, [manifest])
            if name in (EXAMPLES, HOLDOUT):  # whose files begin elsewhere, and with them histories
                rows = with_histories(rows, FeatureSpec.from_json(manifest.facts["spec"]))
            rows = rows.where(F.col("user_id") != F.lit(user))
            found[f"{name} {manifest.date}"] = sorted(map(str, rows.collect()))
    return found


def texts(store) -> str:
    """Every value of every file that lies in the store, the tracking's own among them.

    Weights and pictures hold no names, but bytes among which a short one can turn up by chance.
    """
    files = [p for p in Path(store.base).rglob("*") if p.is_file()]
    files = [p for p in files if p.suffix not in (".safetensors", ".png")]
    return "".join(
        str(pq.read_table(p).to_pydict())
        if p.suffix == ".parquet"
        else p.read_bytes().decode("latin-1")
        for p in files
    )


def test_an_erased_user_is_in_no_data_set_and_others_are_unchanged(spark, copied):
    settings, store = copied
    key, number = someone(spark, store)
    shadow = store.read(spark, store.manifests("scores")[-1:])
    store.publish("shadow", NIGHTS[-1], shadow, {})
    before, ids = others(spark, store, key, number), [m.id for m in store.manifests("state")]
    sizes = {m.date: m.rows for m in store.manifests("examples")}
    unfinished = Path(store.base, CHECKPOINTS, "fingerprint/latest")
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    assert key in texts(store)
    job.run(replace(settings, erase=EraseConfig((key,))), None)
    assert key not in texts(store)
    assert not unfinished.exists()
    assert others(spark, store, key, number) == before
    for name in BY_ID:
        rows = store.read(spark, store.manifests(name))
        assert rows.where(F.col("user_id") == number).isEmpty()
    assert [m.id for m in store.manifests("state")] == ids
    for manifest in store.manifests("examples"):
        assert manifest.erased > 0
        assert manifest.rows + manifest.erased == sizes[manifest.date]
        lengths = [file.rows for file in manifest.files]
        assert max(lengths) - min(lengths) <= 1
    assert all(is_built(store, night) for night in NIGHTS)
    for name in DATA_SETS:
        runs = {Path(file).parent for file in Path(store.base, name).rglob("*.parquet")}
        assert len(runs) == len(store.dates(name)), "superseded runs held the user too"

    training_set = open_training_set(store, NIGHTS[:2], SplitConfig(), NIGHTS[2])
    reader = training_set.training_loader(store, settings.train)
    assert sum(batch.rows for batch, _ in reader.epoch()) == sum(
        store.manifest("examples", night).rows for night in NIGHTS[:2]
    )
    assert training_set.id_counts.examples(store, "user_id")[number] == 0
    with pytest.raises(InputError, match=f"nothing is known of {key}"):
        job.run(replace(settings, erase=EraseConfig((key,))), None)


@pytest.mark.slow
def test_the_next_erasure_finishes_a_killed_one(spark, copied, tmp_path, monkeypatch):
    settings, store = copied
    key, number = someone(spark, store)
    before = others(spark, store, key, number)
    publish, left = Store.publish, [4]

    def dies(self, *words, **named):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return publish(self, *words, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            erase(spark, store, settings.build, [key])
    assert key in texts(store), "the vocabulary forgets last"
    erase(spark, store, settings.build, [key])
    assert key not in texts(store)
    assert others(spark, store, key, number) == before


def test_broken_rows_of_an_erased_user_are_removed(spark, copied):
    settings, store = copied
    day = NIGHTS[0]
    raws = [
        '{"user_id":"u7","item_id":1}',
        '{"_corrupt_record":"{\\"user_id\\":\\"u7\\",\\"item"}',
        '{"user_id":"u77","item_id":1}',
        '{"_corrupt_record":"{\\"user_id\\":\\"u77\\""}',
        '{"user_id":null,"item_id":7}',
    ]
    rows = spark.createDataFrame(
        [("x", "broken", raw) for raw in raws], "source string, reason string, raw string"
    )
    store.publish("quarantine", day, rows, {})
    erase(spark, store, settings.build, ["u7"])
    kept = store.read(spark, [store.require("quarantine", day, "")]).collect()
    assert sorted(row["raw"] for row in kept) == sorted(raws[2:])


def test_erasing_from_an_empty_store_is_an_error(spark, nights, tmp_path):
    settings = nights[0]
    with pytest.raises(InputError, match="nothing is built here"):
        erase(spark, Store(str(tmp_path)), settings.build, ["u1"])
    with pytest.raises(InputError, match=r"erase\.users: name at least one user"):
        job.run(settings, None)
