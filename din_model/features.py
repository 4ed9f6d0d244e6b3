"""FeatureSpec, the one contract between logs, Parquet, model and scores (stdlib only).

The build job makes it from the ``features`` and ``history`` sections; from then on it is read from
where it was written: beside the Parquet, and inside the model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from din_model.errors import InputError

PADDING, UNKNOWN, FIRST_ID = 0, 1, 2
"""Ids of every vocabulary: nothing here; never seen (or too rare, or null); the first real key."""

RESERVED = ("example_id", "label", "weight", "reference", "time")
"""Columns of an example beside its features."""

AGE = "age"
"""History field (optional) that mirrors no feature: the bucket of a behaviour's age."""

AGE_BUCKETS = 41
"""Bucket 0 is padding; bucket b holds ages of [2^(b-1) - 1, 2^b - 1) seconds, the last all more."""


@dataclass(frozen=True)
class Feature:
    """One column of an example.

    Attributes:
        name: its column, in the logs and in the examples.
        side: whose attribute it is. Context is known when the item is shown, not the night before.
        type: of its keys; ``number`` is bucketised by ``boundaries`` and has no vocabulary.
        vocabulary: features that share one share ids and embedding table.
        dimension: of the embedding; 0 keeps the column out of the model.
        max_length: 0 for a single value, else a list of at most so many.
        boundaries: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: number of buckets of about equal rows; the first build finds their boundaries.
        serving_default: what scoring assumes where the candidate table has no such column.
    """

    name: str
    side: Literal["user", "item", "context"]
    type: Literal["string", "int64", "number"]
    vocabulary: str
    dimension: int
    max_length: int = 0
    boundaries: tuple[float, ...] = ()
    quantiles: int = 0
    serving_default: str | int | float | None = None

    @property
    def is_list(self) -> bool:
        return self.max_length > 0


@dataclass(frozen=True)
class History:
    """One kind of past behaviour.

    Attributes:
        kind: its name (clicks, carts, …).
        length: the newest so many are kept.
        lag: availability lag in microseconds: visible when time + lag < cutoff, strictly.
        fields: history field -> the candidate feature that it mirrors and shares a table with.
        age: whether each behaviour also tells how long before the cutoff it happened.
    """

    kind: str
    length: int
    lag: int
    fields: dict[str, str]
    age: bool = False

    def __post_init__(self) -> None:
        # Their order is the order of a behaviour's numbers: equal specs must make equal models.
        object.__setattr__(self, "fields", dict(sorted(self.fields.items())))

    @property
    def lists(self) -> tuple[str, ...]:
        """What an example holds of each behaviour: the fields and, if asked for, the age."""
        return (*self.fields, AGE) if self.age else tuple(self.fields)

    def column(self, name: str) -> str:
        """Column of a field in examples and state; also of ``time`` and ``length``."""
        return f"{self.kind}__{name}"


@dataclass(frozen=True)
class FeatureSpec:
    """Every feature and history, with the columns that carry user, item, time and label."""

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

    def __post_init__(self) -> None:
        _check(self)

    def __getitem__(self, name: str) -> Feature:
        return next(f for f in self.features if f.name == name)

    def side(self, *sides: str) -> tuple[Feature, ...]:
        """The features of the given sides, in order."""
        return tuple(f for f in self.features if f.side in sides)

    @property
    def dimensions(self) -> dict[str, int]:
        """Embedding table -> dimension; the tables are named after the vocabularies."""
        return {f.vocabulary: f.dimension for f in self.features if f.dimension}

    def used_by(self, vocabulary: str) -> tuple[list[Feature], list[tuple[History, str]]]:
        """The features, and the (history, field) pairs, that read a vocabulary."""
        features = [f for f in self.features if f.vocabulary == vocabulary]
        fields = [
            (history, name)
            for history in self.histories
            for name, mirrored in history.fields.items()
            if self[mirrored].vocabulary == vocabulary
        ]
        return features, fields

    def key_feature(self, history: History) -> Feature:
        """What names a behaviour: the item where it is known, else the first mirrored feature."""
        told = [f for f in self.features if f.name in history.fields.values()]
        return next((f for f in told if f.name == self.item), told[0])

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        data: dict[str, Any] = json.loads(text)
        features = tuple(
            Feature(**(f | {"boundaries": tuple(f["boundaries"])})) for f in data.pop("features")
        )
        histories = tuple(History(**h) for h in data.pop("histories"))
        key = tuple(data.pop("key"))
        return cls(**data, features=features, histories=histories, key=key)


def _check(spec: FeatureSpec) -> None:
    """Refuse a spec that contradicts itself, naming the key to mend."""
    names = [f.name for f in spec.features]
    if len(set(names)) < len(names):
        raise InputError("features.columns: a column is named twice")
    for role, side in (("user", "user"), ("item", "item")):
        name = getattr(spec, role)
        if name not in names or spec[name].side != side or spec[name].is_list:
            raise InputError(
                f"features.columns.{name}: the {role} column must be declared, side: {side}, single"
            )
    tables: dict[str, Feature] = {}
    for f in spec.features:
        where = f"features.columns.{f.name}"
        if f.name in RESERVED or "__" in f.name:
            raise InputError(f"{where}: this name is reserved")
        if f.side == "context" and f.serving_default is None:
            raise InputError(f"{where}: unknown at night, so it needs a serving_default")
        if (f.type == "number") != bool(f.boundaries or f.quantiles):
            raise InputError(
                f"{where}: boundaries or quantiles go with type: number, and it needs them"
            )
        if f.quantiles < 0 or f.quantiles == 1:
            raise InputError(f"{where}.quantiles: at least 2 buckets, or none")
        if list(f.boundaries) != sorted(set(f.boundaries)):
            raise InputError(f"{where}.boundaries: must rise strictly")
        other = tables.setdefault(f.vocabulary, f)
        if (other.type, other.dimension) != (f.type, f.dimension) or (
            f is not other and f.type == "number"
        ):
            raise InputError(
                f"{where}: shares the vocabulary {f.vocabulary!r} with {other.name!r}, so type and"
                " dimension must be the same, and neither a number"
            )
    for history in spec.histories:
        where = f"history.kinds.{history.kind}"
        if history.length < 1:
            raise InputError(f"{where}: length must be at least 1")
        if not history.fields:
            raise InputError(f"{where}.fields: name at least one field and the feature it mirrors")
        if reserved := {AGE, "time", "length"} & set(history.fields):
            raise InputError(f"{where}.fields.{min(reserved)}: this name is reserved")
        for name, mirrored in history.fields.items():
            if mirrored not in names or spec[mirrored].side != "item" or spec[mirrored].is_list:
                raise InputError(f"{where}.fields.{name}: {mirrored!r} is no single item feature")
            if spec[mirrored].dimension == 0:
                raise InputError(f"{where}.fields.{name}: {mirrored!r} has dimension 0")
