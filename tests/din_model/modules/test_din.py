"""The whole model: logits, contributions, crosses, and the keys of its weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from din_model.data.batch import from_columns, with_histories
from din_model.features import UNKNOWN, Feature, History
from din_model.modules.attention import MIN_GROUP, MIN_SHARED
from din_model.modules.din import ModelConfig, new_model
from din_model.modules.layers import Dice
from din_model.modules.segments import pairs_of
from din_model.registry.artifact import ModelMetadata
from din_model.registry.predict import probabilities
from tests.din_model.conftest import few_items, small_spec, some_batch, some_columns, some_model


def test_state_dict_keys_are_those_of_published_models():
    assert set(some_model(attention=(8,), activation="relu", wide=9).state_dict()) == {
        "tables.user__row_of", "tables.item__row_of", "tables.tags__row_of",
        "tables.user__weight", "tables.item__weight", "tables.tags__weight",
        "tables.item_bias__weight", "tables.wide__weight",
        "pooling.of_clicks.unit.first.weight", "pooling.of_clicks.unit.first.bias",
        "pooling.of_clicks.unit.rest.0.weight", "pooling.of_clicks.unit.rest.0.bias",
        "tower.0.weight", "tower.0.bias", "tower.2.weight", "tower.2.bias",
        "numeric.base", "numeric.popularity_weight", "numeric.mean", "numeric.spread", "share",
        "calibration",
    }  # fmt: skip


def test_equal_seeds_draw_equal_weights():
    first, second = some_model(), some_model()
    second.reset_parameters(seed=4)
    assert not torch.equal(first.tables.weight("item"), second.tables.weight("item"))
    first.reset_parameters(seed=3)
    second.reset_parameters(seed=3)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


@pytest.mark.parametrize("config", [
    {}, {"encoder": "mean"}, {"encoder": "personas", "wide": 50}, {"softmax": False, "wide": 50},
    {"matches": False},
])  # fmt: skip
def test_contributions_sum_to_the_effect_of_the_history_on_the_logit(config):
    model, spec = some_model(**config), small_spec()
    with torch.no_grad():
        for table in model.tables.sizes:
            model.tables.weight(table).normal_()
    model.eval()
    columns = some_columns(40)
    batch = from_columns(columns, spec)
    without_history = from_columns(columns | {"clicks__length": np.zeros(40, int)}, spec)
    with torch.no_grad():
        effect = model(batch) - model(without_history)
        contributions = model.contributions(batch)["clicks"]
    row = pairs_of(batch.histories["clicks"], None).row
    total = torch.zeros(40).index_add(0, row, contributions)
    torch.testing.assert_close(total, effect, atol=1e-4, rtol=1e-3)
    assert effect.abs().max() > 0.1
    assert (contributions < 0).any()
    assert (contributions > 0).any()


def test_a_cross_adds_its_weight_to_the_logit_of_rows_with_history():
    model, columns = some_model(wide=1000).eval(), some_columns(10)
    batch = from_columns(columns, small_spec())
    with torch.no_grad():
        before = model(batch)
        model.tables.weight("wide").fill_(2.0)
        after = model(batch)
    expected = np.where(columns["clicks__length"] > 0, 2.0, 0.0)
    torch.testing.assert_close(after - before, torch.tensor(expected, dtype=torch.float32))


def test_few_crosses_share_a_hashed_weight():
    model, columns = some_model(wide=1000), some_columns(10)
    model(from_columns(columns, small_spec())).sum().backward()
    (touched,) = [t for t in model.tables.touched if t.table == "wide"]
    lengths = columns["clicks__length"]
    crosses = {
        (item, behaviour)
        for item, history, n in zip(columns["item"], columns["clicks__item"], lengths, strict=True)
        for behaviour in history[:n]
    }
    assert len(crosses) - 5 <= len(touched.rows) <= len(crosses)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_neither_the_logits_nor_the_statistics_of_dice(training):
    columns, results = some_columns(40), []
    inside = np.arange(6) < columns["clicks__length"][:, None]
    for padding in (0, 7):
        model = some_model().train(training)
        padded = columns | {"clicks__item": np.where(inside, columns["clicks__item"], padding)}
        logits = model(from_columns(padded, small_spec()))
        results.append([logits, *(m.mean for m in model.modules() if isinstance(m, Dice))])
    for with_zeros, with_sevens in zip(*results, strict=True):
        assert torch.equal(with_zeros, with_sevens)
    assert len(results[0]) > 2


@pytest.mark.parametrize("candidates", [2, MIN_SHARED, MIN_GROUP])
@pytest.mark.parametrize("encoder", ["din", "mean", "personas"])
def test_a_shared_history_scores_like_its_copies(encoder, candidates):
    model, spec, columns = some_model(encoder=encoder).eval(), small_spec(), some_columns(6)
    repeated = {name: np.repeat(values, candidates, axis=0) for name, values in columns.items()}
    histories = from_columns(columns, spec).histories
    history_of = torch.arange(6).repeat_interleave(candidates)
    shared = with_histories(repeated, spec, histories, history_of)
    torch.testing.assert_close(model(shared), model(from_columns(repeated, spec)))


@pytest.mark.parametrize("shared", [False, True])
def test_behaviours_with_the_known_id_of_the_candidate_are_counted(shared):
    columns, spec = few_items(), small_spec()
    batch = from_columns(columns, spec)
    if shared:
        history_of = torch.arange(60) % 7
        histories = {n: v[history_of] for n, v in columns.items() if n.startswith("clicks__")}
        columns, batch = (
            columns | histories,
            with_histories(columns, spec, batch.histories, history_of),
        )
    counts = some_model()._encode(batch).counts["clicks"]
    equal = columns["clicks__item"] == columns["item"][:, None]
    expected = np.where(columns["item"] > UNKNOWN, equal.sum(1), 0)
    assert counts[:, 0].tolist() == expected.tolist()
    assert set(expected) > {0, 1, 2}


def test_matches_are_inputs_of_din_alone():
    inputs = {
        (encoder, matches): some_model(encoder=encoder, matches=matches).tower[0].in_features
        for encoder in ("din", "mean", "personas") for matches in (True, False)
    }  # fmt: skip
    assert inputs["din", True] == inputs["din", False] + 2
    assert {inputs[each, True] for each in ("mean", "personas")} == {inputs["mean", False]}


def test_an_item_that_is_kept_out_of_the_model_has_no_bias():
    user, item, tags = small_spec().features
    brand = Feature("brand", "item", "string", "brand", 4)
    spec = replace(
        small_spec(),
        features=(user, replace(item, dimension=0), tags, brand),
        histories=(History("clicks", 6, 0, {"brand": "brand"}),),
    )
    columns = some_columns(5)
    columns |= {"brand": columns.pop("item"), "clicks__brand": columns["clicks__item"]}
    rows = {name: torch.arange(30, dtype=torch.int32) for name in spec.dimensions}
    model = new_model(spec, ModelConfig(item_bias=True), rows, seed=1)
    assert model(from_columns(columns, spec)).shape == (5,)
    assert probabilities(model, ModelMetadata("2026-11-20", ""), columns).shape == (5,)
    assert "item_bias" not in model.tables.sizes


def test_forward_returns_the_logits_of_explain():
    model, batch = some_model().eval(), some_batch(8)
    logits, weights = model.explain(batch)
    assert torch.equal(model(batch), logits)
    assert weights["clicks"].shape == batch.histories["clicks"].fields["item"].shape
