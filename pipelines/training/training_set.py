"""What a model is trained on and judged by: published dates, found, checked and counted."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from din_model.data.loader import File, Loader
from din_model.distributed.collectives import rank, world_size
from din_model.errors import InputError, reading
from din_model.features import FIRST_ID, PADDING, FeatureSpec
from din_model.training.config import TrainConfig
from pipelines.examples import counts, vocabulary
from pipelines.examples.publish import EXAMPLES, HOLDOUT, unsampled_examples
from pipelines.examples.split import SplitConfig
from pipelines.ingest.sources import days_between
from pipelines.store.store import Manifest, Store


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on, what judges, and how often each id occurs in the former.

    Attributes:
        later: rows later than training's, to stop by (train.patience); None: all epochs are run.
        first_new: date -> vocabulary -> the first id given on that day.
        counts: columns vocabulary, id, examples, shown, clicked, summed over the training set.
        content: what the above are a function of.
    """

    spec: FeatureSpec
    training: tuple[Manifest, ...]
    judge: Manifest | None
    later: Manifest | None
    first_new: dict[str, dict[str, int]]
    counts: dict[str, dict[str, NDArray[Any]]]
    content: str

    @property
    def logit_shift(self) -> float:
        """See din_model.registry.artifact.ModelMetadata."""
        return float(self.training[-1].facts.get("logit_shift", 0.0))

    @property
    def base_rate(self) -> float:
        item = self.counts[self.spec[self.spec.item].vocabulary]
        return float(item["clicked"].sum() / item["shown"].sum())

    def training_loader(self, store: Store, config: TrainConfig) -> Loader:
        """Read the examples to train on, in another order every epoch."""
        files = [
            File(url, file.rows, self.first_new[m.date], m.facts["sample_rate"])
            for m in self.training
            for url, file in zip(store.urls(m), m.files, strict=True)
        ]
        return Loader(
            files, self.spec, config.batch_size, rank(), world_size(), config.seed,
            oov_dropout=config.oov_dropout,
        )  # fmt: skip

    def values_of_items(self, store: Store, name: str) -> NDArray[Any]:
        """The id of an item's feature (its category) for each id of an item, PADDING if never met.

        Raises:
            InputError: no such feature, or one that is not single, an item's and in a vocabulary.
        """
        item, other = (
            self.spec[self.spec.item],
            next((f for f in self.spec.features if f.name == name), None),
        )
        if other is None or other.side != "item" or other.is_list or other.type == "number":
            raise InputError(
                f"train.new_item_init_from: {name!r} is no feature of an item with one key a row"
            )
        pairs = [(item.name, other.name)]
        for history in self.spec.histories:
            fields = {mirrored: history.column(n) for n, mirrored in history.fields.items()}
            if item.name in fields and name in fields:
                pairs.append((fields[item.name], fields[name]))
        found = np.full(len(self.counts[item.vocabulary]["examples"]), PADDING, np.int64)
        for url in [url for m in self.training for url in store.urls(m)]:
            with reading(url), store.fs.open(url, "rb") as file:
                table = pq.read_table(file, columns=[n for pair in pairs for n in pair])
            for items, values in pairs:
                ids, others = (_flat(table.column(n)) for n in (items, values))
                found[ids] = others
        found[:FIRST_ID] = PADDING
        return found

    def evaluation_loader(self, store: Store) -> Loader:
        """Read the examples that judge, with the columns that metrics and baselines need."""
        assert self.judge is not None
        return self._in_order(store, self.judge)

    def validation_loader(self, store: Store) -> Loader | None:
        """Read the examples to stop by, if any."""
        return self._in_order(store, self.later) if self.later else None

    def _in_order(self, store: Store, manifest: Manifest) -> Loader:
        files = [
            File(url, file.rows)
            for url, file in zip(store.urls(manifest), manifest.files, strict=True)
        ]
        extra = [self.spec.user, self.spec.item] + (["reference"] if self.spec.reference else [])
        return Loader(files, self.spec, 4096, rank(), world_size(), extra=extra)


def training_days(
    config: TrainConfig, split: SplitConfig, day: date, since: date | None
) -> list[date]:
    """The days trained on for a model that ``day`` judges."""
    if split.by == "last_position":
        return [day]
    first = day - timedelta(days=config.window)
    return days_between(max(first, since) if since else first, day - timedelta(days=1))


def open_training_set(
    store: Store, days: list[date], split: SplitConfig, judge: date | None, patience: int = 0
) -> TrainingSet:
    """Find the published examples of ``days``, and those of the date that judges (None: nothing).

    ``patience``: see din_model.training.loop.TrainConfig; with it the last day is not trained on.

    Raises:
        InputError: a day is not built, or was built with another spec; no day is left.
    """
    way_out = "run jobs.build_sequences for it"
    if not days:
        raise InputError(
            f"no day before {judge} to train on: history.since is too late, or train.window 0"
        )
    later = told = None
    if patience:
        if split.by != "date" or len(days) < 2:
            raise InputError(
                "train.patience: the window's last day tells when to stop, so split.by must be date"
                f" and the window have two days or more; here it has {len(days)}"
            )
        *days, last = days
        later, told = unsampled_examples(store, last), store.require(counts.NAME, last, way_out)
    training = tuple(store.require(EXAMPLES, d, way_out) for d in days)
    judging = None
    if judge:
        by_position = split.by == "last_position"
        judging = (
            store.require(HOLDOUT, judge, way_out)
            if by_position
            else unsampled_examples(store, judge)
        )
    newest = judging or training[-1]
    for manifest in training:
        if manifest.facts["spec_hash"] != newest.facts["spec_hash"]:
            raise InputError(
                f"{manifest.id}: built with another spec than {newest.id}; build it again"
            )
    spec = FeatureSpec.from_json(newest.facts["spec"])
    pinned = [store.require(counts.NAME, d, way_out) for d in days]
    sizes = {f.vocabulary: FIRST_ID + len(f.boundaries) + 1 for f in spec.features}
    for m in training:
        sizes |= {v: max(n, sizes[v]) for v, n in m.facts["next_id"].items()}
    grown = [store.require(vocabulary.NAME, d, way_out) for d in days]
    first_new = {m.date: m.facts["first_new"] for m in grown}
    content = json.dumps([spec.hash, first_new, *[m.facts["content"] for m in pinned]])
    content += told.facts["content"] if told else ""
    rates = [m.facts["sample_rate"] for m in training]
    sums = _sum_counts(store, pinned, rates, sizes)
    return TrainingSet(spec, training, judging, later, first_new, sums, content)


def _sum_counts(
    store: Store, manifests: list[Manifest], rates: list[float], sizes: dict[str, int]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Add the days up, as one array indexed by id for each vocabulary and count.

    ``shown`` counts an unclicked row as often as it stands for one: it makes up the click rates.
    """
    names = ("examples", "shown", "clicked")
    sums = {v: {n: np.zeros(size, np.int64) for n in names} for v, size in sizes.items()}
    for url, rate in [(u, r) for m, r in zip(manifests, rates, strict=True) for u in store.urls(m)]:
        with reading(url), store.fs.open(url, "rb") as file:
            table = pq.read_table(file)
        clicked, shown = (table.column(n).to_numpy() for n in ("clicked", "shown"))
        meant = clicked + np.rint((shown - clicked) / rate).astype(np.int64)
        table = table.set_column(table.column_names.index("shown"), "shown", pa.array(meant))
        held = table.column("vocabulary")
        for v in sums:
            mine = table.filter(pa.compute.equal(held, v))
            ids = mine.column("id").to_numpy()
            for n in names:
                np.add.at(sums[v][n], ids, mine.column(n).to_numpy())
    return sums


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    flat = column.combine_chunks()
    return (flat.flatten() if pa.types.is_list(flat.type) else flat).to_numpy()
