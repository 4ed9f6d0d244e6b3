"""What is published, or fails to be, is collected by every block that is open."""

from datetime import date
from pathlib import Path

import pytest

from pipelines.store.publishing import publications
from pipelines.store.store import Store

DAY = date(2026, 11, 22)


def test_nested_blocks_collect_what_is_published_within_each(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.publish("state", DAY, None, {})
    with publications() as outer:
        first = store.publish("counters", DAY, None, {})
        with publications() as inner:
            second = store.publish("state", DAY, None, {})
        third = store.publish("counts", DAY, None, {})
    store.publish("examples", DAY, None, {})
    assert [each.manifest for each in outer] == [first, second, third]
    assert [each.manifest for each in inner] == [second]
    assert {each.store_url for each in outer} == {store.url}
    assert all(each.began <= each.ended and each.error is None for each in outer)


def test_a_publication_that_fails_is_collected_with_its_error(tmp_path: Path) -> None:
    def refuse(_: object) -> None:
        raise ValueError("too few rows")

    with pytest.raises(ValueError, match="too few rows") as raised, publications() as found:
        Store(str(tmp_path)).publish("state", DAY, None, {}, refuse)
    [publication] = found
    assert publication.error is raised.value
    assert publication.manifest.name == "state"
