"""Names of tables that need no escaping."""

import pytest

from din_model.errors import InputError
from pipelines.sinks.names import TABLE, identifiers

BAD = [
    "",
    "a b",
    "a;drop table b",
    'a"b',
    "a`b",
    "1a",
    "a.",
    ".a",
    "a..b",
    "ä",
    "a" * 41,
    "a\n",
    "a.b.c.d",
]


@pytest.mark.parametrize("table", BAD)
def test_a_name_that_needs_escaping_is_refused(table):
    with pytest.raises(InputError, match=r"score\.table: .* is no table: write one to 3 names"):
        identifiers(table, TABLE, 3)


@pytest.mark.parametrize("table", ["scores", "ml.Scores_2", "_a.b.c", "a" * 40])
def test_a_name_is_split_at_its_dots(table):
    assert ".".join(identifiers(table, TABLE, 3)) == table
