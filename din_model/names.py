"""Names of columns: those that examples may have, and the one that a log's column gets there.

Spark, Parquet, Petastorm, torch and MLflow each refuse other names. Examples, state and model
therefore use plain names, and a column of the logs with another name gets a plain one. Columns of
our own begin with an underscore or are reserved, in any letter case, because Spark ignores it.
Standard library only.
"""

import hashlib
import keyword
import re

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
"""``__`` joins a name to those of its parts: ``clicks__item_id``, ``tags__length``."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OF_MODEL = frozenset({"item_bias", "wide"})
"""Tables of the model beside those of the vocabularies."""

RESERVED = OF_MODEL | _words(
    """
    at attempt below_top best bin candidates change clicks col common correlation count counter
    cutoff date day events example_id expected explanations first first_hour good hash
    history_length id item_key key key_0 key_1 keys kind label label_rate last last_hour
    late model model_version overlap pair part partition parts pos rank rank_correlation raw reason
    reference replayed rows run same_first score score_change shown size source time
    unknown_item unknown_user user_key values vocabulary weight why wrong
    """
)
"""What a column of examples cannot be called: some step adds a column of that name."""

OF_SCORES = _words(
    """
    _attempt date explanations history_length model model_version rank run score unknown_item
    unknown_user
    """
)
"""Columns of published scores beside user and item; see scoring.scorer and scoring.score_date."""


def is_plain(name: str) -> bool:
    """Return whether every system that a name passes through takes it as a part of a name."""
    return PLAIN.fullmatch(name) is not None


def is_column(name: str) -> bool:
    """Return whether examples can have a column of this name."""
    return is_plain(name) and name.lower() not in RESERVED and not keyword.iskeyword(name)


def column_name(name: str) -> str:
    """Return the name in examples of a column of the logs: the same, if examples can have it."""
    if is_column(name):
        return name
    readable = "_".join(re.findall("[A-Za-z0-9]+", name))
    readable = readable if readable[:1].isalpha() else f"column_{readable}".rstrip("_")
    return f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
