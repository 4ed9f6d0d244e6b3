"""The sections ``features`` and ``history``, and the FeatureSpec made from them.

Only the build uses this; every later job reads the spec that the build wrote.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from din_model.config import Section, microseconds
from din_model.errors import InputError
from din_model.features import Feature, FeatureSpec, History


@dataclass(frozen=True)
class ColumnConfig(Section):
    """One feature.

    Attributes:
        side: ``user``, ``item``, or ``context``, which is known only when the item is shown, not
            the night before.
        type: type of the keys; ``number`` is bucketised and has no vocabulary.
        vocabulary: features with the same vocabulary share ids and the embedding table; null: the
            feature's name.
        dimension: embedding dimension; 0 keeps the column out of the model; null:
            features.dimension.
        max_length: 0 for a single value, else the maximum length of a list.
        boundaries: for a number: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: for a number: this many buckets with about equal rows, whose boundaries the first
            build computes and keeps.
        serving_default: value that scoring uses if the candidates have no such column.
    """

    side: Literal["user", "item", "context"]
    type: Literal["string", "int64", "number"] = "string"
    vocabulary: str | None = None
    dimension: int | None = None
    max_length: int = 0
    boundaries: tuple[float, ...] = ()
    quantiles: int = 0
    serving_default: str | int | float | None = None

    def __post_init__(self) -> None:
        if self.boundaries and self.quantiles:
            raise ValueError("set boundaries or quantiles, not both")


@dataclass(frozen=True)
class FeaturesConfig(Section):
    """The columns of the logs that the model reads, and the columns of user, item, time and label.

    Attributes:
        user: feature that identifies the user.
        item: feature that identifies the item.
        columns: features by name.
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
    time: str = "time"
    label: str = "label"
    weight: str | None = None
    reference: str | None = None
    key: tuple[str, ...] = ()
    dimension: int = 16
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
    length: int | None = None
    lag: str = "0s"
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
    length: int = 50
    since: date | None = field(default=None)


def feature_spec(features: FeaturesConfig, history: HistoryConfig) -> FeatureSpec:
    """Make the FeatureSpec from the two sections.

    Raises:
        InputError: an unknown time zone, or sections that contradict each other.
    """
    try:
        ZoneInfo(features.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"features.time_zone: unknown time zone {features.time_zone!r}") from None
    return FeatureSpec(
        user=features.user,
        item=features.item,
        time=features.time,
        time_zone=features.time_zone,
        cutoff=history.cutoff,
        label=features.label,
        weight=features.weight,
        reference=features.reference,
        key=features.key,
        features=tuple(
            Feature(
                name=name,
                side=c.side,
                type=c.type,
                vocabulary=c.vocabulary or name,
                dimension=features.dimension if c.dimension is None else c.dimension,
                max_length=c.max_length,
                boundaries=c.boundaries,
                quantiles=c.quantiles,
                serving_default=c.serving_default,
            )
            for name, c in features.columns.items()
        ),
        histories=tuple(
            History(kind, k.length or history.length, microseconds(k.lag), k.fields, k.age)
            for kind, k in history.kinds.items()
        ),
    )
