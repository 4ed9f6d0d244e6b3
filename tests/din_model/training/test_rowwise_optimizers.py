"""Only touched rows move, and they move as Adam and the regulariser say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from din_model.training.rowwise_optimizers import RowOptimizer, row_partition
from tests.din_model.conftest import ones, some_model


def test_row_wise_adam_equals_torchs_adam_for_rows_of_one_number():
    model, lr = some_model(), 0.01
    dense = torch.nn.Parameter(model.tables.weight("item_bias").clone())
    adam, rows = torch.optim.Adam([dense], lr=lr), RowOptimizer(model.tables, lr, ones(model))
    table = model.tables.weight("item_bias")
    model.train()
    everything = torch.arange(30)
    for step in range(5):
        target = torch.randn(30, 1, generator=torch.Generator().manual_seed(step))
        (found,) = model.tables([("item_bias", everything)])
        ((found - target) ** 2).sum().backward()
        rows.step()
        adam.zero_grad()
        ((dense - target) ** 2).sum().backward()
        adam.step()
    torch.testing.assert_close(table, dense.detach(), atol=1e-6, rtol=1e-6)


def pushed(model, rows, rng):
    """Take a step on rows drawn at random; return each of them with its gradient."""
    mine = rng.choice(30, 7)  # some twice
    slopes = rng.standard_normal((7, 8)).astype(np.float32)
    (found,) = model.tables([("item", torch.from_numpy(mine))])
    (found * torch.from_numpy(slopes)).sum().backward()
    rows.step()
    return [(j, slopes[mine == j].sum(0)) for j in np.unique(mine)]


def test_a_row_has_one_second_moment_that_changes_only_when_it_is_touched():
    model, lr, rng = some_model(), 0.01, np.random.default_rng(0)
    rows, w = (
        RowOptimizer(model.tables, lr, ones(model)),
        model.tables.weight("item").clone().numpy(),
    )
    model.train()
    m, v, t = np.zeros_like(w), np.zeros(30), np.zeros(30)
    for _ in range(6):
        for j, g in pushed(model, rows, rng):
            t[j] += 1
            m[j] = 0.9 * m[j] + 0.1 * g
            v[j] = 0.999 * v[j] + 0.001 * (g**2).mean()
            w[j] -= lr * m[j] / (1 - 0.9 ** t[j]) / (np.sqrt(v[j] / (1 - 0.999 ** t[j])) + 1e-8)
    table = model.tables.weight("item")
    torch.testing.assert_close(table, torch.from_numpy(w), atol=1e-6, rtol=1e-5)
    assert sorted(rows.rows["item"][:, -1].tolist()) == sorted(t.tolist())
    assert t.max() > 1


SIZE = 50
LISTS = st.lists(st.sets(st.integers(0, SIZE - 1)).map(sorted), min_size=1, max_size=5)


@given(LISTS)
def test_every_touched_row_is_assigned_to_one_rank(lists):
    rows = [torch.tensor(each, dtype=torch.int64) for each in lists]
    found = [row_partition(rows, SIZE, number, len(rows)) for number in range(len(rows))]
    for n, mine in enumerate(rows):
        assert torch.equal(torch.cat([mine[slices[n]] for slices in found]), mine)
    of_ranks = [
        {int(row) for r, s in zip(rows, slices, strict=True) for row in r[s]} for slices in found
    ]
    assert sum(map(len, of_ranks)) == len(set().union(*lists)), "a row was row_partition to two"


def test_row_partitions_are_about_equal_for_skewed_rows():
    rng = np.random.default_rng(0)
    rows = [torch.from_numpy(np.unique(rng.zipf(1.3, 5000) % 10_000)) for _ in range(4)]
    found = [row_partition(rows, 10_000, n, 4) for n in range(4)]
    counts = [sum(s.stop - s.start for s in slices) for slices in found]
    assert max(counts) < 1.1 * sum(counts) / 4


@pytest.mark.parametrize("rule", ["adagrad", "sgd"])
def test_adagrad_and_sgd_by_rows_follow_their_formulas(rule):
    model, lr, rng = some_model(), 0.1, np.random.default_rng(0)
    before = model.tables.weight("item").clone()
    rows = RowOptimizer(model.tables, lr, ones(model), rule=rule)
    model.train()
    w, squares = before.numpy().copy(), np.zeros(30)
    for _ in range(6):
        for j, g in pushed(model, rows, rng):
            squares[j] += (g**2).mean()
            w[j] -= lr * g / (np.sqrt(squares[j]) + 1e-8 if rule == "adagrad" else 1)
    torch.testing.assert_close(model.tables.weight("item"), torch.from_numpy(w))


def test_regularisation_adds_lambda_times_w_over_n_to_the_gradient():
    gradients = {}
    for strength in (0.0, 0.5):
        model = some_model()
        n = ones(model) | {"item": torch.arange(30.0)}
        rows = RowOptimizer(model.tables, 0.01, n, strength)
        model.train()
        before = model.tables.weight("item").clone()
        (found,) = model.tables([("item", torch.tensor([4, 20, 4]))])
        found.sum().backward()
        rows.step()
        first_moment = rows.rows["item"][:, 8:16]
        gradients[strength] = first_moment / (1 - 0.9)  # after one step
    added = gradients[0.5] - gradients[0.0]
    expected = torch.zeros(30, 8)
    for row in (4, 20):
        expected[row] = 0.5 * before[row] / row  # once a row, however often the batch holds it
    torch.testing.assert_close(added, expected, atol=1e-6, rtol=1e-5)
