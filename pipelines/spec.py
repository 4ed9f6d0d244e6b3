"""The sections ``features`` and ``history``, and the FeatureSpec made from them.

Only the build uses this; every later job reads the spec that the build wrote.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from din_model.config import Section, microseconds
from din_model.errors import InputError
from din_model.features import ALL, IMPRESSIONS, Counter, Feature, FeatureSpec, History
from din_model.names import column_name
from din_model.ranges import Date, Duration, Length, LengthOrZero, Number, Text, Window


@dataclass(frozen=True)
class ColumnConfig(Section):
    """One feature.

    Attributes:
        side: ``user``, ``item``, or ``context``, which is known only when the item is shown, not
            the night before.
        type: type of the keys; ``number`` has no vocabulary: it is bucketised if it has
            ``boundaries`` or ``quantiles``, and enters the model as a value otherwise. ``vector``:
            a list of numbers per user or item in sources.users or sources.items, such as a text or
            image embedding. It is not trained, only its projection to ``dimension`` is, so it also
            tells of items that are newer than the model. Histories that mirror the item have it.
        vocabulary: features with the same vocabulary share ids and the embedding table; null: the
            feature's name.
        dimension: embedding dimension; 0 keeps the column out of the model; null:
            features.dimension, or 0 for a number that enters as a value.
        max_length: 0 for a single value, else the maximum length of a list.
        boundaries: for a number: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: for a number: this many buckets with about equal rows, whose boundaries the first
            build computes and keeps.
        scale: for a number that enters as a value: ``standard``, or ``log``, which takes sign(x) *
            log(1 + |x|) first, for prices and counts. The first build measures the mean and the
            standard deviation, and keeps them. null: ``standard``.
        serving_default: of a context feature, the value that scoring uses if the candidates have no
            such column.
    """

    side: Literal["user", "item", "context"]
    type: Literal["string", "int64", "number", "vector"] = "string"
    vocabulary: str | None = None
    dimension: LengthOrZero | None = None
    max_length: LengthOrZero = 0
    boundaries: tuple[Number, ...] = ()
    quantiles: LengthOrZero = 0
    scale: Literal["standard", "log"] | None = None
    serving_default: Text | int | float | None = None

    def __post_init__(self) -> None:
        if self.boundaries and self.quantiles:
            raise ValueError("set boundaries or quantiles, not both")
        if self.scale and (self.boundaries or self.quantiles):
            raise ValueError("set scale, or boundaries or quantiles, not both")

    @property
    def is_value(self) -> bool:
        """Whether the column is a number that enters the model as it is."""
        return self.type == "number" and not (self.boundaries or self.quantiles)


@dataclass(frozen=True)
class CounterConfig(Section):
    """Sums over earlier events with the same keys, which the model reads as numbers.

    For each window: the number of events and, for impressions, of clicks. Besides, the time since
    the first and the last event.

    Attributes:
        keys: one or two single-valued features, such as ``[user_id, category]``.
        events: ``impressions``, or a kind of ``history.kinds``.
        windows: days, such as ``1d``, or ``all``. A day of the calendar counts as a whole: at the
            start of a day, ``1d`` is yesterday.
        lag: how long after an event it becomes known; null: for impressions,
            sources.attribution_window or the label_delay; for a kind, its own lag.
    """

    keys: tuple[str, ...]
    events: str = IMPRESSIONS
    windows: tuple[Window, ...] = ("1d", "7d", "all")
    lag: Duration | None = None

    @property
    def days(self) -> tuple[int, ...]:
        """The windows in days."""
        day = microseconds("1d")
        return tuple(ALL if w == "all" else microseconds(w) // day for w in self.windows)


@dataclass(frozen=True)
class FeaturesConfig(Section):
    """The columns of the logs that the model reads, and the columns of user, item, time and label.

    Attributes:
        user: feature that identifies the user.
        item: feature that identifies the item.
        columns: features by name.
        counters: counters by name; null: those of the item, the user, and the pair; the same for
            each further feature that a history mirrors; and the item's behaviours of each kind.
            ``{}`` for none.
        time: column of the time: a timestamp, ISO text, or a whole number with ``time_unit``.
        label: column of the click flag (0 or 1), if there is no ``sources.clicks``; for a log of
            positives only, ``1`` from its query.
        weight: column of the weight of an impression; null: all equal.
        reference: column of a score to compare with (yesterday's production model, or the true
            probability of generated logs); the model never reads it.
        key: columns that identify an impression: repeated keys are duplicates, and clicks in their
            own log are matched by it.
        dimension: embedding dimension of columns that set none.
        time_zone: where a day begins, and the zone of times without one.
    """

    user: str
    item: str
    columns: dict[str, ColumnConfig]
    counters: dict[str, CounterConfig] | None = None
    time: str = "time"
    label: str = "label"
    weight: str | None = None
    reference: str | None = None
    key: tuple[str, ...] = ()
    dimension: Length = 16
    time_zone: str = "UTC"


@dataclass(frozen=True)
class KindConfig(Section):
    """One kind of behaviour.

    Attributes:
        fields: history field -> the candidate feature that it mirrors and shares a table with.
        length: number of newest behaviours to keep; null: history.length.
        lag: how long after it happened a behaviour becomes known.
        age: let the model weigh a behaviour by its age, too.
    """

    fields: dict[str, str]
    length: Length | None = None
    lag: Duration = "0s"
    age: bool = False


@dataclass(frozen=True)
class HistoryConfig(Section):
    """The past behaviours in an example.

    Attributes:
        kinds: kinds of behaviour by name.
        cutoff: ``day``: what was known when the impression's date began, which is all that a
            nightly job can know; ``impression``: what was known at its time.
        length: number of newest behaviours to keep, for kinds that set none.
        since: first date of the logs, where training days and cold builds start. A source without
            ``{date}`` in its path is read from its beginning.
    """

    kinds: dict[str, KindConfig]
    cutoff: Literal["day", "impression"] = "day"
    length: Length = 50
    since: Date | None = None


def feature_spec(
    features: FeaturesConfig, history: HistoryConfig, click_delay: int = 0
) -> FeatureSpec:
    """Make the FeatureSpec from the two sections, and name its columns as examples can have them.

    Args:
        features: the columns.
        history: the kinds of behaviour.
        click_delay: microseconds from an impression until its click is known (ingest.sources).

    Raises:
        InputError: an unknown time zone, or sections that contradict each other.
    """
    try:
        ZoneInfo(features.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a region such as Europe is a folder
        raise InputError(f"features.time_zone: unknown time zone {features.time_zone!r}") from None
    columns = {name: column_name(name) for name in features.columns}
    histories = tuple(
        _history(kind, config, features, history, columns) for kind, config in history.kinds.items()
    )
    declared = features.counters
    if declared is None:
        declared = _default_counters(features, history)
    lags = {h.kind: h.lag for h in histories} | {IMPRESSIONS: click_delay}
    return FeatureSpec(
        user=columns.get(features.user, features.user),
        item=columns.get(features.item, features.item),
        time=features.time,
        time_zone=features.time_zone,
        cutoff=history.cutoff,
        label=features.label,
        weight=features.weight,
        reference=features.reference,
        key=features.key,
        features=tuple(_feature(name, c, features) for name, c in features.columns.items()),
        histories=histories,
        counters=tuple(
            Counter(name, c.events, _renamed(c.keys, columns), c.days, _lag(c, lags))
            for name, c in declared.items()
        ),
    )


def _renamed(names: Iterable[str], columns: dict[str, str]) -> tuple[str, ...]:
    """Return the names in examples of declared columns; others stay, for the check to name them."""
    return tuple(columns.get(name, name) for name in names)


def _history(
    kind: str, config: KindConfig, features: FeaturesConfig, history: HistoryConfig,
    columns: dict[str, str],
) -> History:  # fmt: skip
    mirrored = _renamed(config.fields.values(), columns)
    fields = zip(_renamed(config.fields, columns), mirrored, strict=True)
    vectors = {}
    if features.item in config.fields.values():
        of_items = [
            n for n, c in features.columns.items() if c.type == "vector" and c.side == "item"
        ]
        vectors = {columns[name]: columns[name] for name in of_items}
    length = history.length if config.length is None else config.length
    return History(kind, length, microseconds(config.lag), dict(fields) | vectors, config.age)


def _lag(counter: CounterConfig, lags: dict[str, int]) -> int:
    return lags.get(counter.events, 0) if counter.lag is None else microseconds(counter.lag)


def _feature(name: str, column: ColumnConfig, features: FeaturesConfig) -> Feature:
    dimension = features.dimension if column.dimension is None else column.dimension
    if column.is_value and column.dimension is None:
        dimension = 0
    plain = column_name(name)
    return Feature(
        name=plain,
        column="" if plain == name else name,
        side=column.side,
        type=column.type,
        vocabulary=column_name(column.vocabulary or name),
        dimension=dimension,
        max_length=column.max_length,
        boundaries=column.boundaries,
        quantiles=column.quantiles,
        serving_default=column.serving_default,
        scale=(column.scale or "standard") if column.is_value else "",
    )


def _default_counters(features: FeaturesConfig, history: HistoryConfig) -> dict[str, CounterConfig]:
    """Return the counters of a log that declares none: popularity, freshness, repetition."""
    user, item = features.user, features.item
    mirrored = {field for kind in history.kinds.values() for field in kind.fields.values()}
    keys: list[tuple[str, ...]] = [(item,), (user,), (user, item)]
    for name in sorted(mirrored - {item}):
        keys += [(name,), (user, name)]
    counters: dict[str, CounterConfig] = {}
    for names in keys:
        name = f"by_{'_'.join(map(column_name, names))}"
        counters[f"{name}_pair" if name in counters else name] = CounterConfig(names)
    for kind, config in history.kinds.items():
        if item in config.fields.values():
            counters[f"{kind}_by_{column_name(item)}"] = CounterConfig((item,), kind)
    return counters
