"""FeatureSpec, the contract between logs, Parquet, model and scores; needs the stdlib only.

The build makes it from the sections ``features`` and ``history``. Every later step reads it from
where it was written: beside the Parquet, and inside the model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from din_model.errors import InputError

PADDING, UNKNOWN, FIRST_ID = 0, 1, 2
"""Reserved ids of every vocabulary: padding, the unknown key (new, rare or null), the first key."""

RESERVED = ("example_id", "label", "weight", "reference", "time")
"""Columns of an example other than its features."""

AGE = "age"
"""Optional history field: the bucket of a behaviour's age. It mirrors no feature."""

AGE_BUCKETS = 41
"""Bucket 0 is padding; bucket b holds ages in [2^(b-1) - 1, 2^b - 1) seconds, the last all larger.
"""


@dataclass(frozen=True)
class Feature:
    """One column of an example.

    Attributes:
        name: column name, in the logs and in the examples.
        side: ``user``, ``item``, or ``context`` (known only when the item is shown, not the night
            before).
        type: type of the keys; a ``number`` is bucketised by ``boundaries`` and has no vocabulary.
        vocabulary: features with the same vocabulary share ids and the embedding table.
        dimension: embedding dimension; 0 keeps the column out of the model.
        max_length: 0 for a single value, else the maximum length of a list.
        boundaries: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: number of buckets with about equal rows; the first build computes the boundaries.
        serving_default: value that scoring uses if the candidate table has no such column.
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
        """Whether a row holds a list of keys."""
        return self.max_length > 0


@dataclass(frozen=True)
class History:
    """One kind of past behaviour.

    Attributes:
        kind: name of the kind (clicks, carts, …).
        length: number of newest behaviours to keep.
        lag: availability lag in microseconds; visible if time + lag < cutoff, strictly.
        fields: history field -> the candidate feature that it mirrors and shares a table with.
        age: whether the example also holds the age of each behaviour at the cutoff.
    """

    kind: str
    length: int
    lag: int
    fields: dict[str, str]
    age: bool = False

    def __post_init__(self) -> None:
        # The order of the fields is the layout of a behaviour's vector: equal specs, equal models.
        object.__setattr__(self, "fields", dict(sorted(self.fields.items())))

    @property
    def lists(self) -> tuple[str, ...]:
        """Columns per behaviour in an example: the fields and, if configured, the age."""
        return (*self.fields, AGE) if self.age else tuple(self.fields)

    def column(self, name: str) -> str:
        """Return the column of a field in examples and state; also of ``time`` and ``length``."""
        return f"{self.kind}__{name}"


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

    def __post_init__(self) -> None:
        _check(self)

    def __getitem__(self, name: str) -> Feature:
        return next(f for f in self.features if f.name == name)

    def side(self, *sides: str) -> tuple[Feature, ...]:
        """Return the features of the given sides, in order."""
        return tuple(f for f in self.features if f.side in sides)

    @property
    def dimensions(self) -> dict[str, int]:
        """Embedding table -> dimension. Tables are named after their vocabularies."""
        return {f.vocabulary: f.dimension for f in self.features if f.dimension}

    def used_by(self, vocabulary: str) -> tuple[list[Feature], list[tuple[History, str]]]:
        """Return the features, and the (history, field) pairs, that read a vocabulary."""
        features = [f for f in self.features if f.vocabulary == vocabulary]
        fields = [
            (history, name)
            for history in self.histories
            for name, mirrored in history.fields.items()
            if self[mirrored].vocabulary == vocabulary
        ]
        return features, fields

    def key_feature(self, history: History) -> Feature:
        """Return the feature that names a behaviour: the item, else the first mirrored feature."""
        mirrored = [f for f in self.features if f.name in history.fields.values()]
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
        return cls(**data, features=features, histories=histories, key=key)


def _check(spec: FeatureSpec) -> None:
    """Refuse a spec that contradicts itself; the message names the key to correct."""
    names = [f.name for f in spec.features]
    if len(set(names)) < len(names):
        raise InputError("features.columns: a column is declared twice")
    _check_roles(spec, names)
    tables: dict[str, Feature] = {}
    for f in spec.features:
        _check_feature(f)
        _check_shared_table(f, tables.setdefault(f.vocabulary, f))
    for history in spec.histories:
        _check_history(history, spec, names)


def _check_roles(spec: FeatureSpec, names: list[str]) -> None:
    for role, side in (("user", "user"), ("item", "item")):
        name = getattr(spec, role)
        if name not in names or spec[name].side != side or spec[name].is_list:
            raise InputError(
                f"features.columns.{name}: declare the {role} column with side: {side}, not a list"
            )


def _check_feature(f: Feature) -> None:
    where = f"features.columns.{f.name}"
    if f.name in RESERVED or "__" in f.name:
        raise InputError(f"{where}: this name is reserved")
    if f.side == "context" and f.serving_default is None:
        raise InputError(f"{where}: scoring does not know a context feature: set serving_default")
    if (f.type == "number") != bool(f.boundaries or f.quantiles):
        raise InputError(f"{where}: type: number needs boundaries or quantiles, other types none")
    if f.quantiles < 0 or f.quantiles == 1:
        raise InputError(f"{where}.quantiles: must be 0 or at least 2")
    if list(f.boundaries) != sorted(set(f.boundaries)):
        raise InputError(f"{where}.boundaries: must increase strictly")


def _check_shared_table(f: Feature, first: Feature) -> None:
    """``first``: the first feature of the same vocabulary, which may be ``f`` itself."""
    equal = (first.type, first.dimension) == (f.type, f.dimension)
    if not equal or (f is not first and f.type == "number"):
        raise InputError(
            f"features.columns.{f.name}: shares the vocabulary {f.vocabulary!r} with"
            f" {first.name!r}, so both need the same type (not number) and dimension"
        )


def _check_history(history: History, spec: FeatureSpec, names: list[str]) -> None:
    where = f"history.kinds.{history.kind}"
    if history.length < 1:
        raise InputError(f"{where}: length must be at least 1")
    if not history.fields:
        raise InputError(f"{where}.fields: name at least one field and the feature it mirrors")
    if reserved := {AGE, "time", "length"} & set(history.fields):
        raise InputError(f"{where}.fields.{min(reserved)}: this name is reserved")
    for name, mirrored in history.fields.items():
        if mirrored not in names or spec[mirrored].side != "item" or spec[mirrored].is_list:
            raise InputError(
                f"{where}.fields.{name}: {mirrored!r} is not a single-valued item feature"
            )
        if spec[mirrored].dimension == 0:
            raise InputError(f"{where}.fields.{name}: {mirrored!r} has dimension 0")
