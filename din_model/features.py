"""FeatureSpec, the contract between logs, Parquet, model and scores; needs the stdlib only.

The build makes it from the sections ``features`` and ``history``. Every later step reads it from
where it was written: beside the Parquet, and inside the model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from din_model.declarations import (
    AGE,
    AGE_BUCKETS,
    ALL,
    FIRST_ID,
    IMPRESSIONS,
    PADDING,
    UNKNOWN,
    Counter,
    Feature,
    History,
)  # fmt: skip
from din_model.feature_checks import check

__all__ = [
    "AGE", "AGE_BUCKETS", "ALL", "FIRST_ID", "IMPRESSIONS", "PADDING", "UNKNOWN", "Counter",
    "Feature", "FeatureSpec", "History",
]  # fmt: skip


@dataclass(frozen=True)
class FeatureSpec:
    """Every feature and history, and the columns of user, item, time and label."""

    user: str
    item: str
    time: str
    time_zone: str
    cutoff: Literal["day", "impression"]
    label: str
    features: tuple[Feature, ...]
    histories: tuple[History, ...]
    weight: str | None = None
    reference: str | None = None
    key: tuple[str, ...] = ()
    counters: tuple[Counter, ...] = ()

    def __post_init__(self) -> None:
        check(self.user, self.item, self.features, self.histories, self.counters)

    def __getitem__(self, name: str) -> Feature:
        return next(f for f in self.features if f.name == name)

    def side(self, *sides: str) -> tuple[Feature, ...]:
        """Return the features of the given sides, in order."""
        return tuple(f for f in self.features if f.side in sides)

    @property
    def user_and_item(self) -> tuple[Feature, Feature]:
        """The features that name the user and the item."""
        return self[self.user], self[self.item]

    @property
    def values(self) -> tuple[Feature, ...]:
        """The numbers that enter the model as values."""
        return tuple(f for f in self.features if f.is_value)

    @property
    def vectors(self) -> tuple[Feature, ...]:
        """The features whose ids name given vectors."""
        return tuple(f for f in self.features if f.is_vector)

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """Columns of an example that enter the model as numbers: counters, then values."""
        counters = [column for counter in self.counters for column in counter.columns]
        return (*counters, *(f.name for f in self.values))

    @property
    def histories_by_kind(self) -> dict[str, History]:
        """Kind -> history."""
        return {history.kind: history for history in self.histories}

    @property
    def history_lengths(self) -> dict[str, int]:
        """Column of an example that holds a field of a history, KIND__FIELD -> length L."""
        return {h.column(name): h.length for h in self.histories for name in h.lists}

    @property
    def popularity(self) -> Counter | None:
        """The counter of the item's impressions since the first day, if there is one."""
        for counter in self.counters:
            if counter.events == IMPRESSIONS and counter.keys == (self.item,):
                return counter if ALL in counter.windows else None
        return None

    @property
    def dimensions(self) -> dict[str, int]:
        """Trained table -> dimension. Tables are named after their vocabularies."""
        trained = (f for f in self.features if f.dimension and not f.is_vector)
        return {f.vocabulary: f.dimension for f in trained}

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """The names of all vocabularies, each once; values have none."""
        return tuple(dict.fromkeys(f.vocabulary for f in self.features if not f.is_value))

    def used_by(self, vocabulary: str) -> tuple[list[Feature], list[tuple[History, str]]]:
        """Return the features, and the (history, field) pairs, that read a vocabulary."""
        features = [f for f in self.features if f.vocabulary == vocabulary and not f.is_value]
        fields = [
            (history, name)
            for history in self.histories
            for name, mirrored in history.fields.items()
            if self[mirrored].vocabulary == vocabulary
        ]
        return features, fields

    def keyed_fields(self, history: History) -> dict[str, str]:
        """Return field -> mirrored feature of a history, without vectors: ids that can be equal."""
        return {
            n: mirrored for n, mirrored in history.fields.items() if not self[mirrored].is_vector
        }

    def key_feature(self, history: History) -> Feature:
        """Return the feature that names a behaviour: the item, else the first mirrored one.

        A vector has no name for a person, and no trained row to cross.
        """
        mirrored = [
            f for f in self.features if f.name in history.fields.values() and not f.is_vector
        ]
        return next((f for f in mirrored if f.name == self.item), mirrored[0])

    def to_json(self) -> str:
        """Return canonical JSON: equal specs give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        """Read a spec that ``to_json`` wrote."""
        data: dict[str, Any] = json.loads(text)
        features = tuple(
            Feature(**(f | {"boundaries": tuple(f["boundaries"])})) for f in data.pop("features")
        )
        histories = tuple(History(**h) for h in data.pop("histories"))
        key = tuple(data.pop("key"))
        counters = tuple(
            Counter(**(c | {"keys": tuple(c["keys"]), "windows": tuple(c["windows"])}))
            for c in data.pop("counters", ())
        )
        return cls(**data, features=features, histories=histories, key=key, counters=counters)
