"""The ``features`` and ``history`` sections, and the FeatureSpec they amount to.

Only the build job comes here; every later job reads the spec that the build wrote.
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
        side: whose attribute it is. ``context`` is known when the item is shown, not the night
            before.
        type: of its keys; ``number`` is put into buckets and has no vocabulary.
        vocabulary: features that share one share ids and embedding table; null: the feature's name.
        dimension: of the embedding; 0 keeps the column out of the model; null: features.dimension.
        max_length: 0 for a single value, else a list of at most so many.
        boundaries: of a number: bucket b holds values in [boundaries[b-1], boundaries[b]).
        quantiles: of a number: so many buckets of about equal rows, whose boundaries the first
            build finds and keeps.
        serving_default: what scoring assumes where the candidates have no such column.
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
            raise ValueError("give boundaries or quantiles, not both")


@dataclass(frozen=True)
class FeaturesConfig(Section):
    """Which columns of the logs the model reads, and which say who, what, when and whether.

    Attributes:
        user: the feature that says who.
        item: the feature that says what.
        columns: the features by name.
        time: the column of the moment; a timestamp, ISO text, or a whole number with ``time_unit``.
        label: the column that flags clicks (0 or 1), where there is no ``sources.clicks``; of a log
            of clicks alone ``1``, from its query.
        weight: a column that each impression counts with; null: all alike.
        reference: a score to compare with (yesterday's production model, or the truth of generated
            logs); the model never sees it.
        key: the columns that make an impression one: repeated keys are duplicates, and clicks of a
            log of their own are matched by it.
        dimension: of the embeddings that say nothing else.
        time_zone: where a day begins; also of times written without one.
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
        length: the newest so many are kept; null: history.length.
        lag: how long after it happened a behaviour is known.
        age: weigh behaviours by how long ago they happened, too.
    """

    fields: dict[str, str]
    length: int | None = None
    lag: str = "0s"
    age: bool = False


@dataclass(frozen=True)
class HistoryConfig(Section):
    """What of the past an example shows.

    Attributes:
        kinds: the kinds of behaviour by name.
        cutoff: ``day`` shows what was known when the impression's date began, which is all that a
            nightly job can know; ``impression`` what was known at its moment.
        length: the newest so many behaviours are kept, where a kind says nothing else.
        since: the first date of the logs: windows and cold builds start there. A source without
            ``{date}`` in its path is read from its beginning.
    """

    kinds: dict[str, KindConfig]
    cutoff: Literal["day", "impression"] = "day"
    length: int = 50
    since: date | None = field(default=None)


def feature_spec(features: FeaturesConfig, history: HistoryConfig) -> FeatureSpec:
    """Join the two sections into the contract.

    Raises:
        InputError: a time zone that does not exist, or sections that contradict each other.
    """
    try:
        ZoneInfo(features.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"features.time_zone: no time zone {features.time_zone!r}") from None
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
