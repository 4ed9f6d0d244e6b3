"""FeatureSpec, the contract between logs, Parquet, model and scores; needs the stdlib only.

The build makes it from the sections ``features`` and ``history``. Every later step reads it from
where it was written: beside the Parquet, and inside the model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from din_model.errors import InputError
from din_model.names import OF_MODEL, OF_SCORES, is_column, is_plain

PADDING, UNKNOWN, FIRST_ID = 0, 1, 2
"""Reserved ids of every vocabulary: padding, the unknown key (new, rare or null), the first key."""

AGE = "age"
"""Optional history field: the bucket of a behaviour's age. It mirrors no feature."""

AGE_BUCKETS = 41
"""Bucket 0 is padding; bucket b holds ages in [2^(b-1) - 1, 2^b - 1) seconds, the last all larger.
"""

IMPRESSIONS = "impressions"
"""The events of a counter that counts impressions and their clicks, not a kind of behaviour."""

ALL = 0
"""The window of a counter that reaches back to the first event."""


@dataclass(frozen=True)
class Feature:
    """One column of an example.

    Attributes:
        name: column name in the examples.
        side: ``user``, ``item``, or ``context`` (known only when the item is shown, not the night
            before).
        type: type of the keys; a ``number`` has no vocabulary: it is bucketised by
            ``boundaries``, or enters the model as a value if it has a ``scale``. The keys of a
            ``vector`` name vectors that are given, see modules.vectors.
        vocabulary: features with the same vocabulary share ids and the embedding table.
        dimension: embedding dimension; 0 keeps the column out of the model.
        max_length: 0 for a single value, else the maximum length of a list.
        boundaries: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: number of buckets with about equal rows; the first build computes the boundaries.
        serving_default: value that scoring uses if the candidate table has no such column.
        scale: of a number that enters as a value: ``standard``, or ``log``, which takes sign(x) *
            log(1 + |x|) first. Examples hold the raw value, NaN if missing.
        center, spread: mean and standard deviation of the scaled values; the first build measures
            them.
        size: numbers in a given vector; the first build measures it.
        column: name in the logs and in published scores, if examples cannot have it.
    """

    name: str
    side: Literal["user", "item", "context"]
    type: Literal["string", "int64", "number", "vector"]
    vocabulary: str
    dimension: int
    max_length: int = 0
    boundaries: tuple[float, ...] = ()
    quantiles: int = 0
    serving_default: str | int | float | None = None
    scale: Literal["", "standard", "log"] = ""
    center: float = 0.0
    spread: float = 1.0
    size: int = 0
    column: str = ""

    @property
    def log_name(self) -> str:
        """The column name in the logs and in published scores."""
        return self.column or self.name

    @property
    def is_list(self) -> bool:
        """Whether a row holds a list of keys."""
        return self.max_length > 0

    @property
    def is_value(self) -> bool:
        """Whether a row holds a number that enters the model as it is, without id and table."""
        return bool(self.scale)

    @property
    def is_vector(self) -> bool:
        """Whether the ids name given vectors instead of trained rows."""
        return self.type == "vector"


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
class Counter:
    """Sums over the events before a row's cutoff that share the row's keys.

    An event at time t is known at t + lag, and counts if t + lag < cutoff, strictly. A window of N
    days counts what became known on the cutoff's own day (before the cutoff) and on the N days
    before it. With ``cutoff: day`` nothing of the own day is before the cutoff, so a window of 1
    day is yesterday. A row with an unknown key counts nothing.

    Attributes:
        name: prefix of the counter's columns.
        events: ``impressions``, which have clicks, too; or a kind of history.
        keys: one or two single-valued features, whose ids must be equal.
        windows: lengths in days; ``ALL`` reaches back to the first event.
        lag: microseconds.
    """

    name: str
    events: str
    keys: tuple[str, ...]
    windows: tuple[int, ...]
    lag: int = 0

    def count(self, window: int) -> str:
        """Return the column of the number of events in a window."""
        return f"{self.name}__events_{self._suffix(window)}"

    def clicks(self, window: int) -> str:
        """Return the column of the number of clicked impressions in a window."""
        return f"{self.name}__clicks_{self._suffix(window)}"

    @property
    def first(self) -> str:
        """The column of the seconds from the first known event to the cutoff; -1 without event."""
        return f"{self.name}__first"

    @property
    def last(self) -> str:
        """The column of the seconds from the last known event to the cutoff; -1 without event."""
        return f"{self.name}__last"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the counter in an example, all bigint and never null."""
        counts = [self.count(w) for w in self.windows]
        if self.events == IMPRESSIONS:
            counts += [self.clicks(w) for w in self.windows]
        return (*counts, self.first, self.last)

    @staticmethod
    def _suffix(window: int) -> str:
        return "all" if window == ALL else f"{window}d"


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
        _check(self)

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
        counters = tuple(
            Counter(**(c | {"keys": tuple(c["keys"]), "windows": tuple(c["windows"])}))
            for c in data.pop("counters", ())
        )
        return cls(**data, features=features, histories=histories, key=key, counters=counters)


def _check(spec: FeatureSpec) -> None:
    """Refuse a spec that contradicts itself; the message names the key to correct."""
    names = [f.name for f in spec.features]
    _check_names(spec)
    _check_roles(spec, names)
    tables: dict[str, Feature] = {}
    for f in spec.features:
        _check_feature(f)
        _check_shared_table(f, tables.setdefault(f.vocabulary, f))
    for history in spec.histories:
        _check_history(history, spec, names)
    for counter in spec.counters:
        _check_counter(counter, spec, names)


def _check_names(spec: FeatureSpec) -> None:
    """Check every name that becomes a column, a table or a part of the model.

    Two names must differ in more than case, which Spark ignores.
    """
    own = [(f"features.columns.{f.log_name}", f.name, is_column(f.name)) for f in spec.features]
    own += [
        (f"history.kinds.{h.kind}", h.kind, is_plain(h.kind) and h.kind != IMPRESSIONS)
        for h in spec.histories
    ]
    own += [(f"features.counters.{c.name}", c.name, is_plain(c.name)) for c in spec.counters]
    taken: set[str] = set()
    for where, name, allowed in own:
        if not allowed:
            raise InputError(
                f"{where}: this name is reserved or not plain: write letters, digits and single"
                " underscores, and a letter first"
            )
        if name.lower() in taken:
            raise InputError(f"{where}: another column, kind or counter has this name")
        taken.add(name.lower())
    for role in (f for f in spec.features if f.name in (spec.user, spec.item)):
        if role.log_name.lower() in OF_SCORES:
            raise InputError(
                f"features.columns.{role.log_name}: published scores have a column of this name:"
                " rename the user or item column in the query of each source"
            )


def _check_roles(spec: FeatureSpec, names: list[str]) -> None:
    for role, side in (("user", "user"), ("item", "item")):
        name = getattr(spec, role)
        if name not in names or spec[name].side != side or spec[name].is_list:
            name = spec[name].log_name if name in names else name
            raise InputError(
                f"features.columns.{name}: declare the {role} column with side: {side}, not a list"
            )


def _check_feature(f: Feature) -> None:
    where = f"features.columns.{f.log_name}"
    if not is_plain(f.vocabulary) or f.vocabulary in OF_MODEL:
        raise InputError(f"{where}.vocabulary: {f.vocabulary!r} is reserved or not plain")
    if f.side == "context" and f.serving_default is None:
        raise InputError(f"{where}: scoring does not know a context feature: set serving_default")
    if f.type != "number" and (f.boundaries or f.quantiles or f.scale):
        raise InputError(f"{where}: boundaries, quantiles and scale need type: number")
    if f.type == "number" and bool(f.boundaries or f.quantiles) == bool(f.scale):
        raise InputError(f"{where}: a number needs one of boundaries, quantiles and scale")
    if f.is_vector and (f.side == "context" or f.is_list or f.dimension < 2):
        raise InputError(
            f"{where}: a vector is of a user or an item, one a row, and of dimension 2 or more"
        )
    if f.scale and (f.dimension or f.is_list):
        raise InputError(
            f"{where}: a number with a scale is one value: no dimension, no max_length"
        )
    if f.quantiles < 0 or f.quantiles == 1:
        raise InputError(f"{where}.quantiles: must be 0 or at least 2")
    if list(f.boundaries) != sorted(set(f.boundaries)):
        raise InputError(f"{where}.boundaries: must increase strictly")


def _check_shared_table(f: Feature, first: Feature) -> None:
    """``first``: the first feature of the same vocabulary, which may be ``f`` itself."""
    equal = (first.type, first.dimension) == (f.type, f.dimension)
    if not equal or (f is not first and f.type in ("number", "vector")):
        raise InputError(
            f"features.columns.{f.log_name}: shares the vocabulary {f.vocabulary!r} with"
            f" {first.log_name!r}, so both need the same type (string or int64) and dimension"
        )


def _check_history(history: History, spec: FeatureSpec, names: list[str]) -> None:
    where = f"history.kinds.{history.kind}"
    if history.length < 1:
        raise InputError(f"{where}: length must be at least 1")
    if not history.fields:
        raise InputError(f"{where}.fields: name at least one field and the feature it mirrors")
    columns: set[str] = {AGE, "time", "length"}
    for name, mirrored in history.fields.items():
        if not is_plain(name) or name.lower() in columns:
            raise InputError(f"{where}.fields.{name}: this name is taken, reserved or not plain")
        columns.add(name.lower())
        if mirrored not in names or spec[mirrored].side != "item" or spec[mirrored].is_list:
            raise InputError(
                f"{where}.fields.{name}: {mirrored!r} is not a single-valued item feature"
            )
        if spec[mirrored].dimension == 0:
            raise InputError(f"{where}.fields.{name}: {mirrored!r} has dimension 0")


def _check_counter(counter: Counter, spec: FeatureSpec, names: list[str]) -> None:
    where = f"features.counters.{counter.name}"
    if counter.events not in (IMPRESSIONS, *(h.kind for h in spec.histories)):
        raise InputError(
            f"{where}.events: {counter.events!r} is neither impressions nor a kind of history"
        )
    if not 1 <= len(set(counter.keys)) == len(counter.keys) <= 2:
        raise InputError(f"{where}.keys: name one feature, or two different ones")
    for key in counter.keys:
        f = spec[key] if key in names else None
        if f is None or f.is_list or f.is_value or f.is_vector:
            raise InputError(f"{where}.keys: {key!r} is not a single-valued feature with ids")
    if not counter.windows or min(counter.windows) < 0 or counter.lag < 0:
        raise InputError(f"{where}: needs at least one window, and nothing may be negative")
    if counter.events != IMPRESSIONS:
        mirrored = {spec.user, *spec.histories_by_kind[counter.events].fields.values()}
        if missing := set(counter.keys) - mirrored:
            raise InputError(
                f"{where}.keys: a {counter.events} behaviour has no {min(missing)!r}: name user, or"
                f" what history.kinds.{counter.events}.fields mirrors"
            )
