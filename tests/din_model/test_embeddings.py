"""Which row of a table each id reads."""

import numpy as np

from din_model.embeddings import assign_rows


def test_rare_ids_share_the_unknown_row_and_old_rows_never_move():
    first = assign_rows(np.array([0, 0, 5, 1, 9]), min_count=2)
    assert first.tolist() == [0, 1, 2, 1, 3]
    assert assign_rows(np.array([0, 0, 0, 7, 0, 3]), 2, first).tolist() == [0, 1, 2, 4, 3, 5]


def test_ids_above_2_to_the_24_stay_distinct():
    row_of = assign_rows(np.ones(2**24 + 4, np.int64), 1)
    assert row_of[2**24 : 2**24 + 3].tolist() == [2**24, 2**24 + 1, 2**24 + 2]
