"""The data sets of a store, declared once: what a row is, and how it names a user."""

from dataclasses import dataclass
from enum import Enum

VOCABULARY, VECTORS = "vocabulary", "vectors"
QUARANTINE, REFUSED = "quarantine", "refused"
EXAMPLES, HOLDOUT, COUNTERS, STATE, COUNTS = "examples", "holdout", "counters", "state", "counts"
SCORES, SHADOW, NIGHTS = "scores", "shadow", "nights"
ERASURES = "erasures"

PINS = "pins"
"""Name among a run's facts of the ids of the runs that it is made of, by data set."""


class User(Enum):
    """How a row names a user, which is how an erasure matches it."""

    NOBODY = "names no user"
    KEY = "the key, in the column of the user"
    ID = "the id, in the column of the user"
    COUNTER_KEY = "the id, in the keys of counters by user"
    VECTOR_ID = "the id of a user's vector"
    VOCABULARY = "the key, as an entry"
    RAW = "the key, in the text of a row"
    COUNTED = "the id; counted again from the remaining examples"


@dataclass(frozen=True)
class DataSet:
    """A table of the store, partitioned by date.

    Attributes:
        name: its folder in the store.
        row: what a row is.
        upstream: the data sets whose runs a run is made of, which its facts then pin.
        user: how a row names a user.
        chained: dates depend on earlier ones, so that one job at a time can publish any of them.
    """

    name: str
    row: str
    upstream: tuple[str, ...] = ()
    user: User = User.NOBODY
    chained: bool = False


PAST = (STATE, COUNTERS)
"""Data sets of the day before, which hold all that a day needs of its past."""

DATA_SETS = {
    each.name: each
    for each in (
        # In the order in which an erasure rewrites them; the vocabulary, which maps keys to ids,
        # forgets last, so that a killed erasure can be run again.
        DataSet(SCORES, "a scored candidate", (*PAST, VECTORS), User.KEY),
        DataSet(SHADOW, "a candidate scored by another version", (SCORES,), User.KEY),
        DataSet(REFUSED, "a candidate that cannot be scored", user=User.RAW),
        DataSet(QUARANTINE, "a broken row of a log", user=User.RAW),
        DataSet(EXAMPLES, "an impression with its history", PAST, User.ID, chained=True),
        DataSet(HOLDOUT, "an impression that is not trained on", PAST, User.ID, chained=True),
        DataSet(
            COUNTS, "an id of a feature with its examples", (EXAMPLES, *PAST), User.COUNTED,
            chained=True,
        ),
        DataSet(COUNTERS, "a partial sum of events", PAST, User.COUNTER_KEY, chained=True),
        DataSet(STATE, "a user with the newest behaviours", PAST, User.ID, chained=True),
        DataSet(VECTORS, "a vector of an item or user", user=User.VECTOR_ID, chained=True),
        DataSet(VOCABULARY, "a key with its id", user=User.VOCABULARY, chained=True),
        DataSet(NIGHTS, "what the gate of a night decided"),
        DataSet(ERASURES, "an erasure, with the number of its users"),
    )
}  # fmt: skip
