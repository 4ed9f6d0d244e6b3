"""The training set of a model: published dates to train on, to stop by and to evaluate on."""

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import accumulate, islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from din_model.data.loader import File, Loader
from din_model.data.rows import Columns
from din_model.distributed.collectives import rank, world_size
from din_model.errors import InputError, reading
from din_model.features import FIRST_ID, PADDING, FeatureSpec
from din_model.training.config import TrainConfig
from pipelines.examples.publish import unsampled_examples
from pipelines.examples.split import SplitConfig
from pipelines.examples.vectors import load_vectors
from pipelines.store.data_sets import COUNTS, EXAMPLES, HOLDOUT, VOCABULARY
from pipelines.store.manifest import Manifest
from pipelines.store.store import Store
from pipelines.training.id_counts import IdCounts

VALIDATED = 200_000
"""Rows that are enough to see whether a model improves; scoring more only takes time."""

HELD_OUT = 4
"""With one training day, one of this many files is held out for validation."""

MEASURED = 100_000
"""Training rows from which the mean and spread of counters and numbers are measured."""


@dataclass(frozen=True)
class TrainingSet:
    """Published examples for training and evaluation; holds nothing that grows with rows or ids.

    Given vectors are the exception.

    Attributes:
        spec: the contract of all dates.
        training: examples to train on.
        evaluation: examples to evaluate on; None: no evaluation.
        validation: some of the newest rows, to stop by and to calibrate on (train.patience); None:
            all epochs run.
        newest: all rows that validation is a part of, to train on last.
        first_new: date -> vocabulary -> first id assigned on that day.
        id_counts: how often each id occurs in all of these days.
        base_rate: click rate of the training rows.
        content: identifies the data for the fingerprint.
        vectors: vocabulary -> given vectors by id, as of the newest of these dates.
    """

    spec: FeatureSpec
    training: tuple[Manifest, ...]
    evaluation: Manifest | None
    validation: Manifest | None
    newest: Manifest | None
    first_new: dict[str, dict[str, int]]
    id_counts: IdCounts
    base_rate: float
    content: str
    vectors: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def days(self) -> tuple[Manifest, ...]:
        """The examples of every day that is trained on, each day once, in order."""
        by_id = {m.id: m for m in (*self.training, *((self.newest,) if self.newest else ()))}
        return tuple(by_id.values())

    @property
    def logit_shift(self) -> float:
        """See din_model.registry.artifact.ModelMetadata."""
        return float(self.training[-1].facts.get("logit_shift", 0.0))

    @property
    def popularity_weight(self) -> float:
        """See pipelines.examples.negatives.NegativesConfig; 1 for logs of impressions."""
        return float(self.training[-1].facts.get("popularity_weight", 1.0))

    def training_loader(self, store: Store, config: TrainConfig) -> Loader:
        """Return a loader of the training rows, in another order every epoch."""
        return self._shuffled(store, config, self.training)

    def newest_loader(self, store: Store, config: TrainConfig) -> Loader | None:
        """Return a loader of the rows to train on last, if any."""
        return self._shuffled(store, config, (self.newest,)) if self.newest else None

    def _shuffled(
        self, store: Store, config: TrainConfig, manifests: tuple[Manifest, ...]
    ) -> Loader:
        files = [
            File(url, file.rows, self.first_new[m.date], m.facts["sample_rate"])
            for m in manifests
            for url, file in zip(store.urls(m), m.files, strict=True)
        ]
        return Loader(
            files, self.spec, config.batch_size, rank(), world_size(), config.seed,
            oov_dropout=config.oov_dropout,
        )  # fmt: skip

    def rows(self, store: Store, seed: int) -> Iterator[Columns]:
        """Yield columns of this rank's rows of all days that are trained on, in a seeded order."""
        config = TrainConfig(seed=seed, oov_dropout=0.0)
        yield from self._shuffled(store, config, self.days).chunks()

    def numbers(self, store: Store, config: TrainConfig) -> Iterator[Tensor]:
        """Yield counters and values of some training rows [B, columns], in every rank its own."""
        if not self.spec.numeric_columns:
            return
        loader = self.training_loader(store, config)
        for batch, _ in islice(loader.epoch(), -(-MEASURED // (config.batch_size * world_size()))):
            yield batch.numbers

    def values_of_items(self, store: Store, name: str) -> NDArray[Any]:
        """Return an item feature (its category) for each item id; PADDING for items never seen.

        Raises:
            InputError: no such feature, or one that is not a single-valued item feature with a
                vocabulary.
        """
        item, feature = (
            self.spec[self.spec.item],
            next((f for f in self.spec.features if f.log_name == name), None),
        )
        if feature is None or feature.side != "item" or feature.is_list or feature.type == "number":
            raise InputError(
                f"train.new_item_init_from: {name!r} is not a single-valued item feature with keys"
            )
        if feature is item:
            raise InputError(
                f"train.new_item_init_from: {name!r} is the item itself: name its category"
            )
        pairs = [(item.name, feature.name)]
        for history in self.spec.histories:
            fields = {mirrored: history.column(n) for n, mirrored in history.fields.items()}
            if item.name in fields and name in fields:
                pairs.append((fields[item.name], fields[name]))
        value_of = np.full(self.id_counts.sizes[item.vocabulary], PADDING, np.int32)
        for url in [url for m in self.training for url in store.urls(m)]:
            with reading(url), store.fs.open(url, "rb") as file:
                table = pq.read_table(file, columns=[n for pair in pairs for n in pair])
            for items, values in pairs:
                ids, others = (_flat(table.column(n)) for n in (items, values))
                value_of[ids] = others
        value_of[:FIRST_ID] = PADDING
        return value_of

    def evaluation_loader(self, store: Store) -> Loader:
        """Return a loader of the evaluation rows, with columns for metrics and baselines."""
        assert self.evaluation is not None
        return self._in_order(store, self.evaluation, rank(), world_size())

    def evaluation_loaders(self, store: Store) -> list[Loader]:
        """Return a loader for each file of the evaluation rows; each reads in one process."""
        assert self.evaluation is not None
        parts = [replace(self.evaluation, files=(file,)) for file in self.evaluation.files]
        return [self._in_order(store, part, 0, 1) for part in parts]

    def validation_loader(self, store: Store) -> Loader | None:
        """Return a loader of the validation rows, if any."""
        if self.validation is None:
            return None
        return self._in_order(store, self.validation, rank(), world_size())

    def _in_order(self, store: Store, manifest: Manifest, rank: int, ranks: int) -> Loader:
        files = [
            File(url, file.rows, sample_rate=manifest.facts["sample_rate"])
            for url, file in zip(store.urls(manifest), manifest.files, strict=True)
        ]
        extra = [self.spec.user, self.spec.item] + (["reference"] if self.spec.reference else [])
        return Loader(files, self.spec, 4096, rank, ranks, extra=extra)


def training_days(
    config: TrainConfig, split: SplitConfig, day: date, since: date | None,
    lost: Collection[date] = (),
) -> list[date]:  # fmt: skip
    """Return the days to train on for an evaluation on ``day``.

    Args:
        config: how many.
        split: by date or by position.
        day: the evaluation date.
        since: first date of the logs.
        lost: dates without logs; earlier ones take their place.
    """
    if split.by != "date":
        return [day]
    days: list[date] = []
    before = day - timedelta(days=1)
    while len(days) < config.window and (since is None or before >= since):
        days += [] if before in lost else [before]
        before -= timedelta(days=1)
    return days[::-1]


def open_training_set(
    store: Store,
    days: list[date],
    split: SplitConfig,
    evaluation_date: date | None,
    patience: int = 0,
) -> TrainingSet:
    """Find and check the published examples of ``days`` and of the evaluation date.

    Args:
        store: where they are published.
        days: the training days.
        split: by date or by position.
        evaluation_date: the evaluation date; None: no evaluation.
        patience: if not 0, the newest rows are held out for validation (train.patience): the last
            day, or a part of the only day.

    Raises:
        InputError: a day is not built, or was built with another spec; there is no training day.
    """
    way_out = "run jobs.build_sequences for it"
    if not days:
        raise InputError(
            f"no day before {evaluation_date} to train on: set history.since earlier, or"
            " train.window above 0"
        )
    training = tuple(store.require(EXAMPLES, d, way_out) for d in days)
    slices = hold_out(store, training) if patience else Slices(training, None, None)
    evaluation = _evaluation_rows(store, split, evaluation_date) if evaluation_date else None
    newest = evaluation or training[-1]
    for manifest in training:
        if manifest.facts["spec_hash"] != newest.facts["spec_hash"]:
            raise InputError(
                f"{manifest.id}: built with another spec than {newest.id}: build it again"
            )
    spec = FeatureSpec.from_json(newest.facts["spec"])
    pinned = [store.require(COUNTS, d, way_out) for d in days]
    sizes = {
        f.vocabulary: FIRST_ID + len(f.boundaries) + 1 for f in spec.features if not f.is_value
    }
    for m in training:
        sizes |= {v: max(n, sizes[v]) for v, n in m.facts["next_id"].items()}
    grown = [store.require(VOCABULARY, d, way_out) for d in days]
    first_new = {m.date: m.facts["first_new"] for m in grown}
    content = json.dumps([spec.hash, first_new, *[m.facts["content"] for m in pinned]])
    id_counts = _id_counts(pinned, training, sizes)
    return TrainingSet(
        spec, slices.training, evaluation, slices.validation, slices.newest, first_new, id_counts,
        id_counts.click_rate(store, spec[spec.item].vocabulary), content,
        load_vectors(store, spec, date.fromisoformat(newest.date)),
    )  # fmt: skip


def _id_counts(
    counts: Sequence[Manifest], training: Sequence[Manifest], sizes: dict[str, int]
) -> IdCounts:
    rates = tuple(m.facts["sample_rate"] for m in training)
    impressions = sum(m.rows / rate for m, rate in zip(training, rates, strict=True))
    return IdCounts(tuple(counts), rates, sizes, math.ceil(impressions))


class Slices(NamedTuple):
    """Rows to train on, some of the newest to validate on, and all of the newest."""

    training: tuple[Manifest, ...]
    validation: Manifest | None
    newest: Manifest | None


def hold_out(store: Store, training: tuple[Manifest, ...]) -> Slices:
    """Hold the last day out, or the last files of the only one; files mix rows at random.

    A day of one row, which is one file, has nothing to hold out.
    """
    *earlier, last = training
    if earlier:
        rows = unsampled_examples(store, date.fromisoformat(last.date))
        return Slices(tuple(earlier), _first_files(rows, VALIDATED), last)
    if len(last.files) == 1:
        return Slices(training, None, None)
    held_out = max(1, len(last.files) // HELD_OUT)
    newest = replace(last, files=last.files[-held_out:])
    kept = replace(last, files=last.files[:-held_out])
    return Slices((kept,), _first_files(newest, VALIDATED), newest)


def _first_files(manifest: Manifest, rows: int) -> Manifest:
    """Return the manifest with the first files that have ``rows`` rows, or with all."""
    before = accumulate((f.rows for f in manifest.files), initial=0)
    files = [f for f, done in zip(manifest.files, before, strict=False) if done < rows]
    return replace(manifest, files=tuple(files))


def _evaluation_rows(store: Store, split: SplitConfig, day: date) -> Manifest:
    if split.by != "date":
        return store.require(HOLDOUT, day, "run jobs.build_sequences for it")
    return unsampled_examples(store, day)


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    flat = column.combine_chunks()
    return (flat.flatten() if pa.types.is_list(flat.type) else flat).to_numpy()
