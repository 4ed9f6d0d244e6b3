"""What a FeatureSpec declares: features, histories and counters; needs the stdlib only."""

from dataclasses import dataclass
from typing import Literal

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
        serving_default: of a context feature, the value that scoring uses if the candidate table
            has no such column.
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
