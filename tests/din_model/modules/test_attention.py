"""The activation unit and the interest encoders."""

from itertools import pairwise

import pytest
import torch

from din_model.data.batch import Histories
from din_model.features import AGE_BUCKETS
from din_model.modules import attention
from din_model.modules.attention import (
    MAX_HIDDEN_ELEMENTS,
    MIN_GROUP,
    MIN_SHARED,
    ActivationUnit,
    AttentivePooling,
    MeanPooling,
    PersonaPooling,
)
from din_model.modules.segments import pairs_of

OFFSETS = torch.tensor([0, 3, 3, 7])
PAIRS = pairs_of(Histories({}, OFFSETS), None)


def test_the_factored_first_layer_equals_the_concatenated_form():
    unit = ActivationUnit(5, (7, 3), "sigmoid")
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    q, k = query[PAIRS.row], keys[PAIRS.position]
    plain = unit.rest(unit.act(unit.first(torch.cat([q, k, q - k, q * k], 1)))).squeeze(1)
    torch.testing.assert_close(unit(query, keys, PAIRS), plain, atol=1e-5, rtol=1e-5)


def test_the_age_vector_equals_a_one_hot_input_of_the_first_layer():
    unit = ActivationUnit(5, (7, 3), "sigmoid", age=True)
    query, keys, age = torch.randn(3, 5), torch.randn(7, 5), torch.arange(7) * 6
    q, k = query[PAIRS.row], keys[PAIRS.position]
    one_hot = torch.nn.functional.one_hot(age[PAIRS.position], AGE_BUCKETS).float()
    weight = torch.cat([unit.first.weight, unit.of_age.weight.T], 1)
    inputs = torch.cat([q, k, q - k, q * k, one_hot], 1)
    plain = unit.rest(unit.act(inputs @ weight.T + unit.first.bias)).squeeze(1)
    torch.testing.assert_close(unit(query, keys, PAIRS, age), plain, atol=1e-5, rtol=1e-5)


def test_hand_written_gradients_of_the_unit_equal_numerical_ones():
    unit = ActivationUnit(4, (6,), "sigmoid").double()
    query, keys = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 7))
    inputs = query, keys, unit.first.weight, unit.first.bias
    assert torch.autograd.gradcheck(lambda q, k, *_: unit(q, k, PAIRS), inputs)


@pytest.mark.parametrize("act", ["dice", "sigmoid"])
def test_bfloat16_approximates_float32_in_training_and_is_off_in_evaluation(act):
    unit = ActivationUnit(8, (16, 4), act, age=True)
    query, keys = torch.randn(3, 8, requires_grad=True), torch.randn(7, 8, requires_grad=True)
    inputs, age = [query, keys, *unit.parameters()], torch.arange(7)

    def scores_and_gradients(bfloat16):
        unit.low_precision = bfloat16
        scores = unit(query, keys, PAIRS, age)
        gradients = torch.autograd.grad(scores.sum(), inputs)
        return torch.cat([scores, *(g.flatten() for g in gradients)])

    plain, low = scores_and_gradients(False), scores_and_gradients(True)
    assert low.dtype == plain.dtype
    assert not torch.equal(low, plain)
    assert (low - plain).norm() < 0.02 * plain.norm()  # bfloat16 has steps of 1/128
    unit.eval()
    in_low_precision = unit(query, keys, PAIRS, age)
    unit.low_precision = False
    assert torch.equal(unit(query, keys, PAIRS, age), in_low_precision)


@pytest.mark.parametrize("age", [None, torch.arange(7)])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("candidates", [1, MIN_SHARED, MIN_GROUP])
def test_pooling_of_shared_histories_in_parts_equals_pooling_of_all_pairs_at_once(
    softmax, age, candidates, monkeypatch
):
    pooling = AttentivePooling(5, (7, 3), "dice", softmax, age=age is not None)
    pooling(torch.randn(3, 5), torch.randn(7, 5), PAIRS, age)  # Dice's statistics
    pooling.eval()
    keys, histories = torch.randn(7, 5), Histories({}, OFFSETS)
    history_of = torch.arange(3).repeat_interleave(candidates)
    query, shared = torch.randn(len(history_of), 5), pairs_of(histories, history_of)
    assert shared.group_size == candidates
    plain = pooling.pool_pairs(query, keys, shared, age)
    for elements in (7, 7 * 20, MAX_HIDDEN_ELEMENTS):
        monkeypatch.setattr(attention, "MAX_HIDDEN_ELEMENTS", elements)
        for part, whole in zip(pooling(query, keys, shared, age), plain, strict=True):
            torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-5)


def test_a_batch_without_rows_has_no_interest_and_no_weights():
    pooling = AttentivePooling(5, (7,), "dice", softmax=True).eval()
    none = pairs_of(Histories({}, torch.zeros(1, dtype=torch.long)), None)
    interest, weights = pooling(torch.randn(0, 5), torch.randn(0, 5), none)
    assert (interest.shape, weights.shape) == ((0, 5), (0,))


@pytest.mark.parametrize("pooling", [
    MeanPooling(),
    AttentivePooling(5, (7,), "dice", softmax=True),
    AttentivePooling(5, (7,), "dice", softmax=False),
    PersonaPooling(5, 3),
])  # fmt: skip
def test_an_empty_history_has_a_zero_interest(pooling):
    interest, _ = pooling(torch.randn(3, 5), torch.randn(7, 5), PAIRS)
    assert (interest[1] == 0).all()
    assert (interest[[0, 2]] != 0).any(1).all()


def test_mean_pooling_gives_the_mean_of_each_history():
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    interest, _ = MeanPooling()(query, keys, PAIRS)
    for row, (start, end) in enumerate(pairwise(OFFSETS)):
        expected = keys[start:end].mean(0) if end > start else torch.zeros(5)
        torch.testing.assert_close(interest[row], expected)


def test_softmax_weights_are_normalised_within_each_history():
    pooling = AttentivePooling(5, (7,), "relu", softmax=True)
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    scores, (_, weights) = pooling.unit(query, keys, PAIRS), pooling(query, keys, PAIRS)
    for start, end in ((0, 3), (3, 7)):
        torch.testing.assert_close(weights[start:end], torch.softmax(scores[start:end], 0))


def test_personas_are_mixed_by_their_match_with_the_candidate():
    pooling = PersonaPooling(5, 3)
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    interest, weights = pooling(query, keys, PAIRS)
    for row, start, end in ((0, 0, 3), (2, 3, 7)):
        history = keys[start:end]
        personas = torch.softmax(pooling.attention(history), 0).T @ history  # [K, d]
        mix = torch.softmax(personas @ query[row] / 5**0.5, 0)
        torch.testing.assert_close(interest[row], mix @ personas)
        torch.testing.assert_close(weights[start:end].sum(), torch.tensor(1.0))
