"""Which row of a table each id reads."""

import numpy as np
import pytest
import torch

from din_model.modules.embeddings import EmbeddingTables, assign_rows, segments_of
from tests.din_model.conftest import small_spec, some_model


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
    (embeddings,) = tables([(items, ids)])
    assert torch.equal(embeddings, tables.weight(items)[ids % 7])


@pytest.mark.parametrize("training", [True, False])
def test_ids_beyond_the_model_read_the_unknown_row(training):
    tables = some_model().tables.train(training)
    (embeddings,) = tables([("item", torch.tensor([1, 30, 2**24 + 1]))])
    assert torch.equal(embeddings, tables.weight("item")[[1, 1, 1]])


def test_segments_group_the_lookups_of_each_table_by_row():
    first, second = segments_of([torch.tensor([4, 0, 4]), torch.tensor([2, 1])], [5, 3])
    assert [t.tolist() for t in first] == [[0, 4], [1, 0, 2], [0, 1]]
    assert [t.tolist() for t in second] == [[1, 2], [1, 0], [0, 1]]
    assert first.rows[first.inverse()].tolist() == [4, 0, 4]


def test_a_training_lookup_sums_the_gradient_of_each_distinct_row():
    tables = some_model().tables
    before, after = tables([("user", torch.tensor([5, 3])), ("user", torch.tensor([5]))])
    (before.sum() + 10 * after.sum()).backward()
    (touched,) = tables.touched
    assert touched.rows.tolist() == [3, 5]
    assert touched.leaf.grad.tolist() == [[1.0] * 4, [11.0] * 4]


def test_moved_weights_keep_their_values_in_the_given_memory():
    tables, memory = some_model().tables, torch.zeros(20, 5)
    before = tables.weight("user").clone()
    tables.move("user", memory)
    assert torch.equal(tables.weight("user"), before)
    assert tables.weight("user").data_ptr() == memory.data_ptr()


def test_pieces_of_a_replicated_table_are_its_rows_in_order():
    tables = some_model().tables
    assert torch.equal(torch.cat(list(tables.pieces("item"))), tables.weight("item"))
