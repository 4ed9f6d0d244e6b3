from itertools import pairwise

import numpy as np
import pytest
import torch

from din_model.data.batch import Histories, from_columns, with_histories
from din_model.features import AGE_BUCKETS
from din_model.modules.attention import (
    ActivationUnit,
    AttentivePooling,
    MeanPooling,
    PersonaPooling,
)
from din_model.modules.layers import Dice
from din_model.modules.segments import pairs_of, weighted_sum
from tests.din_model.conftest import small_spec, some_columns, some_model

OFFSETS = torch.tensor([0, 3, 3, 7])


def test_the_factored_first_layer_equals_the_concatenated_form():
    unit = ActivationUnit(5, (7, 3), "sigmoid")
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    pairs = pairs_of(Histories({}, OFFSETS), None)
    q, k = query[pairs.row], keys[pairs.position]
    plain = unit.rest(unit.act(unit.first(torch.cat([q, k, q - k, q * k], 1)))).squeeze(1)
    torch.testing.assert_close(unit(query, keys, pairs), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", [
    MeanPooling(),
    AttentivePooling(5, (7,), "dice", softmax=True),
    AttentivePooling(5, (7,), "dice", softmax=False),
    PersonaPooling(5, 3),
])  # fmt: skip
def test_an_empty_history_has_a_zero_interest(pooling):
    pairs = pairs_of(Histories({}, OFFSETS), None)
    interest, _ = pooling(torch.randn(3, 5), torch.randn(7, 5), pairs)
    assert (interest[1] == 0).all()
    assert (interest[[0, 2]] != 0).any(1).all()


def test_the_mean_weighs_the_behaviours_of_each_history_alike():
    query, keys, pairs = (
        torch.randn(3, 5),
        torch.randn(7, 5),
        pairs_of(Histories({}, OFFSETS), None),
    )
    interest, _ = MeanPooling()(query, keys, pairs)
    for row, (start, end) in enumerate(pairwise(OFFSETS)):
        expected = keys[start:end].mean(0) if end > start else torch.zeros(5)
        torch.testing.assert_close(interest[row], expected)


def test_softmax_weights_are_those_of_each_history_alone():
    pooling = AttentivePooling(5, (7,), "relu", softmax=True)
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    pairs = pairs_of(Histories({}, OFFSETS), None)
    scores, (_, weights) = pooling.unit(query, keys, pairs), pooling(query, keys, pairs)
    for start, end in ((0, 3), (3, 7)):
        torch.testing.assert_close(weights[start:end], torch.softmax(scores[start:end], 0))


def test_an_age_is_one_more_one_hot_input_of_the_activation_unit():
    unit = ActivationUnit(5, (7, 3), "sigmoid", age=True)
    query, keys, age = torch.randn(3, 5), torch.randn(7, 5), torch.arange(7) * 6
    pairs = pairs_of(Histories({}, OFFSETS), None)
    q, k = query[pairs.row], keys[pairs.position]
    one_hot = torch.nn.functional.one_hot(age[pairs.position], AGE_BUCKETS).float()
    weight = torch.cat([unit.first.weight, unit.of_age.weight.T], 1)
    inputs = torch.cat([q, k, q - k, q * k, one_hot], 1)
    plain = unit.rest(unit.act(inputs @ weight.T + unit.first.bias)).squeeze(1)
    torch.testing.assert_close(unit(query, keys, pairs, age), plain, atol=1e-5, rtol=1e-5)


def test_personas_are_mixed_by_how_well_they_match_the_candidate():
    pooling = PersonaPooling(5, 3)
    query, keys = torch.randn(3, 5), torch.randn(7, 5)
    pairs = pairs_of(Histories({}, OFFSETS), None)
    interest, weights = pooling(query, keys, pairs)
    for row, start, end in ((0, 0, 3), (2, 3, 7)):
        mine = keys[start:end]
        personas = torch.softmax(pooling.attention(mine), 0).T @ mine  # [K, d]
        mix = torch.softmax(personas @ query[row] / 5**0.5, 0)
        torch.testing.assert_close(interest[row], mix @ personas)
        torch.testing.assert_close(weights[start:end].sum(), torch.tensor(1.0))


@pytest.mark.parametrize("config", [
    {}, {"encoder": "mean"}, {"encoder": "personas", "wide": 50}, {"softmax": False, "wide": 50},
])  # fmt: skip
def test_contributions_add_up_to_what_the_history_does_to_the_logit(config):
    model, spec = some_model(**config), small_spec()
    with torch.no_grad():
        for table in model.tables.sizes:
            model.tables.weight(table).normal_()
    model.eval()
    columns = some_columns(40)
    batch = from_columns(columns, spec)
    alone = from_columns(columns | {"clicks__length": np.zeros(40, int)}, spec)
    with torch.no_grad():
        effect = model(batch) - model(alone)
        pairs = pairs_of(batch.histories["clicks"], None)
        each = model.contributions(batch)["clicks"]
    added = torch.zeros(40).index_add(0, pairs.row, each)
    torch.testing.assert_close(added, effect, atol=1e-4, rtol=1e-3)
    assert effect.abs().max() > 0.1
    assert (each < 0).any()
    assert (each > 0).any()


def test_crosses_memorise_pairs_that_the_rest_cannot_tell():
    model, columns = some_model(wide=1000).eval(), some_columns(10)
    batch = from_columns(columns, small_spec())
    with torch.no_grad():
        before = model(batch)
        model.tables.weight("wide").fill_(2.0)
        after = model(batch)
    expected = np.where(columns["clicks__length"] > 0, 2.0, 0.0)
    torch.testing.assert_close(after - before, torch.tensor(expected, dtype=torch.float32))
    model.train()
    model(batch).sum().backward()
    (touched,) = [t for t in model.tables.touched if t.table == "wide"]
    lengths = columns["clicks__length"]
    pairs = {
        (item, behaviour)
        for item, past, n in zip(columns["item"], columns["clicks__item"], lengths, strict=True)
        for behaviour in past[:n]
    }
    assert len(pairs) - 5 <= len(touched.rows) <= len(pairs), "hardly any two share a weight"


@pytest.mark.parametrize("training", [False, True])
def test_padding_never_changes_a_score_nor_what_dice_remembers(training):
    columns, found = some_columns(40), []
    inside = np.arange(6) < columns["clicks__length"][:, None]
    for padding in (0, 7):
        model = some_model().train(training)
        dirty = columns | {"clicks__item": np.where(inside, columns["clicks__item"], padding)}
        logits = model(from_columns(dirty, small_spec()))
        found.append([logits, *(m.mean for m in model.modules() if isinstance(m, Dice))])
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty)
    assert len(found[0]) > 2


def test_a_shared_history_scores_like_its_copies():
    model, spec = some_model().eval(), small_spec()
    columns = some_columns(6)
    twice = {name: np.repeat(values, 2, axis=0) for name, values in columns.items()}
    copied = from_columns(twice, spec)
    shared = with_histories(
        twice, spec, from_columns(columns, spec).histories, torch.arange(12) // 2
    )
    torch.testing.assert_close(model(shared), model(copied))


def test_dice_uses_the_positions_it_is_given_and_remembers_them():
    dice, x = Dice(4), torch.randn(50, 4) * 3 + 1
    out = dice(x)
    gate = torch.sigmoid((x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-8))
    torch.testing.assert_close(out, x * gate)
    dice.eval()
    torch.testing.assert_close(dice(x), out)


def test_derivatives_written_out_are_those_of_what_is_computed():
    pairs = pairs_of(Histories({}, OFFSETS), None)
    rows, behaviours, weights = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 4), (7, 4), (7,))
    )
    dice = Dice(4).double()
    dice.alpha.data.uniform_()
    assert torch.autograd.gradcheck(lambda x, alpha: dice(x), (behaviours, dice.alpha))
    assert torch.autograd.gradcheck(pairs.repeat_rows, rows)
    assert torch.autograd.gradcheck(lambda k, w: weighted_sum(k, w, pairs), (behaviours, weights))
    unit = ActivationUnit(4, (6,), "sigmoid").double()
    inputs = rows, behaviours, unit.first.weight, unit.first.bias
    assert torch.autograd.gradcheck(lambda q, k, *_: unit(q, k, pairs), inputs)


@pytest.mark.parametrize("act", ["dice", "sigmoid"])
def test_bfloat16_computes_what_float32_does_and_only_in_training(act):
    unit, pairs = ActivationUnit(8, (16, 4), act, age=True), pairs_of(Histories({}, OFFSETS), None)
    query, keys = torch.randn(3, 8, requires_grad=True), torch.randn(7, 8, requires_grad=True)
    inputs, age = [query, keys, *unit.parameters()], torch.arange(7)

    def scores_and_gradients(bfloat16):
        unit.low_precision = bfloat16
        scores = unit(query, keys, pairs, age)
        gradients = torch.autograd.grad(scores.sum(), inputs)
        return torch.cat([scores, *(g.flatten() for g in gradients)])

    plain, low = scores_and_gradients(False), scores_and_gradients(True)
    assert low.dtype == plain.dtype
    assert not torch.equal(low, plain)
    assert (low - plain).norm() < 0.02 * plain.norm()  # two of its steps, which are of 1/128
    assert torch.equal(
        *(unit.eval()(query, keys, pairs, age) for unit.low_precision in (False, True))
    )


def test_dice_of_no_positions_has_no_gradient():
    dice, none = Dice(4), torch.empty(0, 4, requires_grad=True)
    dice(none).sum().backward()
    assert none.grad.shape == (0, 4)
    assert not dice.alpha.grad.any()
    assert not dice.steps


def test_ids_beyond_the_model_read_the_unknown_row():
    model, columns = some_model().eval(), some_columns(10)
    unknown = from_columns(columns | {"item": np.full(10, 1)}, small_spec())
    newer = from_columns(columns | {"item": np.full(10, 2**24 + 1)}, small_spec())
    assert torch.equal(model(unknown), model(newer))
