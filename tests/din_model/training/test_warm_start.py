"""What a model that goes on from an older one begins with."""

from dataclasses import replace

import pytest
import torch

from din_model.errors import InputError
from din_model.modules.din import new_model
from din_model.training.warm_start import copy_into
from tests.din_model.conftest import some_batch, some_model


def test_new_rows_of_a_warm_started_model_equal_the_unknown_row():
    older = some_model()
    id_to_row = {name: older.tables.id_to_row(name) for name in ("user", "item", "tags")}
    id_to_row["item"] = torch.arange(35, dtype=torch.int32)
    model = new_model(older.spec, older.config, id_to_row, seed=9)
    copy_into(model, older)
    weight, before = model.tables.weight("item"), older.tables.weight("item")
    assert torch.equal(weight[:30], before)
    assert torch.equal(weight[30:], before[1].expand(5, -1))
    batch = some_batch(40)
    assert torch.equal(model.eval()(batch), older.eval()(batch))


def test_a_warm_start_from_other_layers_is_refused():
    older = some_model()
    config = replace(older.config, tower=(11,))
    id_to_row = {name: older.tables.id_to_row(name) for name in ("user", "item", "tags")}
    with pytest.raises(InputError, match=r"train\.start: champion needs"):
        copy_into(new_model(older.spec, config, id_to_row, seed=9), older)


def test_a_new_row_starts_as_the_mean_of_its_group():
    older = some_model()
    id_to_row = {name: older.tables.id_to_row(name) for name in ("user", "item", "tags")}
    # Ids 30 to 33 are new: two of group 3, one of a group that has no older row, one of none.
    id_to_row["item"] = torch.arange(34, dtype=torch.int32)
    groups = torch.zeros(34, dtype=torch.int64)
    groups[[4, 9, 1, 30, 31]] = 3  # the unknown row is nobody's kin
    groups[32] = 5
    model = new_model(older.spec, older.config, id_to_row, seed=9)
    copy_into(model, older, {"item": groups})
    for table in ("item", "item_bias"):
        weight, before = model.tables.weight(table), older.tables.weight(table)
        mean = before[[4, 9]].mean(0)
        assert torch.equal(weight[:30], before)
        torch.testing.assert_close(weight[30:], torch.stack([mean, mean, before[1], before[1]]))
    assert torch.equal(model.tables.weight("user"), older.tables.weight("user"))
