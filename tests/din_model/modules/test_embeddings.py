"""Which row of a table each id reads."""

import numpy as np
import pytest
import torch

from din_model.modules.embeddings import EmbeddingTables, assign_rows
from tests.din_model.conftest import small_spec


def test_rare_ids_share_the_unknown_row_and_old_rows_never_move():
    first = assign_rows(np.array([0, 0, 5, 1, 9]), min_count=2)
    assert first.tolist() == [0, 1, 2, 1, 3]
    assert assign_rows(np.array([0, 0, 0, 7, 0, 3]), 2, first).tolist() == [0, 1, 2, 4, 3, 5]


def test_ids_above_2_to_the_24_stay_distinct():
    id_to_row = assign_rows(np.ones(2**24 + 4, np.int64), 1)
    assert id_to_row[2**24 : 2**24 + 3].tolist() == [2**24, 2**24 + 1, 2**24 + 2]


@pytest.mark.parametrize("training", [True, False])
def test_ids_above_2_to_the_24_read_their_own_rows(training):
    spec, ids = small_spec(), torch.arange(2**24 - 2, 2**24 + 4)
    id_to_row = {name: torch.arange(9, dtype=torch.int32) for name in spec.dimensions}
    items = spec[spec.item].vocabulary
    # Neighbours have rows apart, in a table that is small all the same.
    id_to_row[items] = torch.arange(2**24 + 4, dtype=torch.int32) % 7
    tables = EmbeddingTables(spec, id_to_row, item_bias=True).train(training)
    tables.reset_parameters(std=1.0)
    (found,) = tables([(items, ids)])
    assert torch.equal(found, tables.weight(items)[ids % 7])
