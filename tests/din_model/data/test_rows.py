"""A history that rows share reaches each of them, however lists are stored."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from din_model.data.batch import from_columns, from_rows
from din_model.data.rows import from_arrow, together
from din_model.errors import InputError
from tests.din_model.conftest import small_spec, some_columns, some_model

LENGTH = 6


def stored(runs: list[list[int]], sizes: list[int]) -> dict[str, pa.Array]:
    """Columns of as many rows as the sizes say; the first of each run has the list."""
    columns = {n: pa.array(v.tolist()) for n, v in some_columns(sum(sizes)).items()}
    lists: list[list[int] | None] = []
    for ids, size in zip(runs, sizes, strict=True):
        lists += [ids, *[None] * (size - 1)]
    columns["clicks__item"] = pa.array(lists, pa.list_(pa.int32()))
    lengths = [len(ids) for ids, size in zip(runs, sizes, strict=True) for _ in range(size)]
    columns["clicks__length"] = pa.array(lengths)
    return columns


RUNS = st.lists(
    st.tuples(st.lists(st.integers(1, 99), max_size=LENGTH), st.integers(1, 5)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(deadline=None)  # the first call builds a model
@given(RUNS, RUNS, st.randoms())
def test_every_row_has_the_history_of_its_run(first, second, draw):
    parts = [
        from_arrow("x", stored(*zip(*runs, strict=True)), small_spec()) for runs in (first, second)
    ]
    rows = together(parts)
    expected = [
        ids + [0] * (LENGTH - len(ids)) for ids, size in first + second for _ in range(size)
    ]
    order = list(range(len(rows)))
    draw.shuffle(order)
    taken = rows.take(np.array(order)).expanded()
    assert taken["clicks__item"].tolist() == [expected[i] for i in order]
    assert taken["item"].tolist() == [rows.columns["item"][i] for i in order]
    assert len(rows.histories["clicks__item"]) == len(first + second)
    start, stop = sorted((order[0], order[-1]))
    part = rows.slice(start, stop + 1)
    assert part.expanded()["clicks__item"].tolist() == expected[start : stop + 1]
    shared, own = from_rows(part, small_spec()), from_columns(part.expanded(), small_spec())
    model = some_model().eval()
    torch.testing.assert_close(model(shared), model(own))


@pytest.mark.parametrize(
    ("name", "lists", "message"),
    [
        ("clicks__item", [[1] * 7, None], "x: column clicks__item: a list of 7 ids; at most 6"),
        ("clicks__item", [None, [1]], "x: a row has no history"),
        ("tags", [[1, 2, 3, 4], [1]], "x: column tags: lists of 1 to 4 ids; all must have one"),
    ],
)
def test_lists_that_do_not_fit_are_named(name, lists, message):
    columns = stored([[1]], [2]) | {name: pa.array(lists, pa.list_(pa.int32()))}
    with pytest.raises(InputError, match=message):
        from_arrow("x", columns, small_spec())
