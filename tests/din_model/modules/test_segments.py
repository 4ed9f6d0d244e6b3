"""Reductions over segments, and the (row, behaviour) pairs of a batch."""

import pytest
import torch

from din_model.data.batch import Histories
from din_model.modules.segments import (
    pairs_of,
    segment_reduce,
    segment_softmax,
    segment_starts,
    weighted_sum,
)

OFFSETS = torch.tensor([0, 3, 3, 7])
VALUES = torch.tensor([[1.0], [2.0], [6.0], [4.0], [4.0], [0.0], [8.0]])


@pytest.mark.parametrize(("mode", "expected"), [("sum", [9, 0, 16]), ("mean", [3, 0, 4])])
def test_segment_reduce_gives_zero_for_an_empty_segment(mode, expected):
    assert segment_reduce(VALUES, OFFSETS, mode)[:, 0].tolist() == expected


def test_pairs_of_own_histories_are_the_behaviours_themselves():
    pairs = pairs_of(Histories({}, OFFSETS), None)
    assert pairs.row.tolist() == [0, 0, 0, 2, 2, 2, 2]
    assert pairs.position.tolist() == list(range(7))
    assert pairs.gather_behaviours(VALUES) is VALUES


def test_pairs_of_a_shared_history_repeat_its_behaviours_for_each_row():
    pairs = pairs_of(Histories({}, OFFSETS), torch.tensor([2, 0, 0, 1]))
    assert pairs.row.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert pairs.position.tolist() == [3, 4, 5, 6, 0, 1, 2, 0, 1, 2]
    assert pairs.gather_behaviours(VALUES)[:, 0].tolist() == [4, 4, 0, 8, 1, 2, 6, 1, 2, 6]


def test_groups_are_adjacent_rows_with_one_history():
    pairs = pairs_of(Histories({}, OFFSETS), torch.tensor([2, 0, 0, 1]))
    assert list(pairs.groups()) == [
        (slice(0, 1), slice(3, 7)),
        (slice(1, 3), slice(0, 3)),
        (slice(3, 4), slice(3, 3)),
    ]


@pytest.mark.parametrize(("history_of", "expected"), [
    (None, 1), (torch.tensor([0, 0, 1, 1, 2, 2]), 2), (torch.tensor([0, 1, 2, 0, 1, 2]), 1),
])  # fmt: skip
def test_the_group_size_counts_adjacent_rows_with_one_history(history_of, expected):
    assert pairs_of(Histories({}, OFFSETS), history_of).group_size == expected


@pytest.mark.parametrize("history_of", [None, torch.tensor([2, 0, 0, 1, 2, 2])])
@pytest.mark.parametrize("most", [1, 3, 5, 100])
def test_parts_have_whole_rows_and_all_pairs_in_order(history_of, most):
    pairs = pairs_of(Histories({}, OFFSETS), history_of)
    parts = list(pairs.parts(most))
    rows = torch.cat([part.row + of.start for of, _, part in parts])
    assert rows.tolist() == pairs.row.tolist()
    behaviours = torch.cat([part.gather_behaviours(VALUES[own]) for _, own, part in parts])
    assert torch.equal(behaviours, pairs.gather_behaviours(VALUES))
    longest = int(pairs.offsets.diff().max())
    assert all(len(part.row) < most + longest for *_, part in parts)


@pytest.mark.parametrize("scores", [torch.randn(7), torch.randn(7, 2), torch.full((7,), 1e4)])
def test_segment_softmax_equals_the_softmax_of_each_segment(scores):
    weights = segment_softmax(scores, pairs_of(Histories({}, OFFSETS), None))
    expected = torch.cat([torch.softmax(scores[:3], 0), torch.softmax(scores[3:], 0)])
    torch.testing.assert_close(weights, expected)


def test_weighted_sum_is_zero_for_a_row_without_pairs():
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 1.0, -1.0])
    pairs = pairs_of(Histories({}, OFFSETS), None)
    assert weighted_sum(VALUES, weights, pairs)[:, 0].tolist() == [2, 0, 4]


def test_hand_written_gradients_equal_numerical_ones():
    pairs = pairs_of(Histories({}, OFFSETS), None)
    rows, keys, weights = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 4), (7, 4), (7,))
    )
    assert torch.autograd.gradcheck(pairs.repeat_rows, rows)
    assert torch.autograd.gradcheck(lambda k, w: weighted_sum(k, w, pairs), (keys, weights))


@pytest.mark.parametrize(("ascending", "starts"), [([2, 2, 5, 7, 7], [0, 2, 3]), ([], [])])
def test_segment_starts_are_where_the_number_changes(ascending, starts):
    assert segment_starts(torch.tensor(ascending, dtype=torch.int64)).tolist() == starts
