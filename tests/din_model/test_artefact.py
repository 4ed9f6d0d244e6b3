"""A model comes back from its files to the bit, and what is no model is refused in one line."""

import json
from dataclasses import replace

import pytest
import torch

from din_model.artefact import Facts, copy_into, load, save
from din_model.errors import InputError
from din_model.model import new_model
from pipelines.negatives import NegativesConfig
from tests.din_model.conftest import some_batch, some_model

FACTS = Facts("2026-11-21", "abc", ["examples/2026-11-21/r"], 10, 10, {"din": {"auc": 0.7}})


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, some_model(), FACTS)
    return tmp_path


def test_a_loaded_model_scores_to_the_bit_like_the_saved_one(folder):
    model = some_model()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))  # running statistics and zeros, too
    save(folder, model, FACTS)
    loaded, facts = load(folder)
    assert facts == FACTS and loaded.spec == model.spec and loaded.config == model.config
    batch = some_batch(50)
    assert torch.equal(loaded(batch), model.eval()(batch))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_an_artefact_is_json_and_safetensors(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "weights.safetensors"]
    json.loads((folder / "model.json").read_text())
    head = (folder / "weights.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert "tables.item__row_of" in json.loads(head[8 : 8 + size])


def test_another_format_version_is_refused(folder):
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"format_version": 2}))
    with pytest.raises(InputError, match="format version 2; this release reads 1"):
        load(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_or_torn_file_is_refused_by_its_folder(folder, name):
    whole = (folder / name).read_bytes()
    for damage in (lambda p: p.write_bytes(whole[: len(whole) // 2]), lambda p: p.unlink()):
        damage(folder / name)
        with pytest.raises(InputError, match=f"{folder.name}: no DIN model"):
            load(folder)


def test_a_model_goes_on_from_an_older_one_with_new_rows_as_its_unknown_row():
    older = some_model()
    row_of = {name: older.tables.row_of(name) for name in ("user", "item", "tags")}
    row_of["item"] = torch.arange(35, dtype=torch.int32)
    model = new_model(older.spec, older.config, row_of, seed=9)
    copy_into(model, older)
    weight, before = model.tables.weight("item"), older.tables.weight("item")
    assert torch.equal(weight[:30], before)
    assert torch.equal(weight[30:], before[1].expand(5, -1))
    batch = some_batch(40)
    assert torch.equal(model.eval()(batch), older.eval()(batch))


def test_a_model_of_other_layers_is_no_start():
    older = some_model()
    config = replace(older.config, tower=(11,))
    row_of = {name: older.tables.row_of(name) for name in ("user", "item", "tags")}
    with pytest.raises(InputError, match=r"train\.start: champion needs"):
        copy_into(new_model(older.spec, config, row_of, seed=9), older)


def test_published_scores_are_shifted_from_the_drawn_click_rate_to_the_one_that_is_meant():
    drawn = NegativesConfig(per_positive=4, base_rate=0.02)
    facts = Facts("2026-11-21", "f", logit_shift=drawn.logit_shift)
    # Among drawn rows one in five is a click; a model that says so means the base rate.
    logit = torch.logit(torch.tensor([0.2, 0.5]))
    published = facts.probability(logit)
    odds = published / (1 - published)
    torch.testing.assert_close(published[0].item(), 0.02)
    torch.testing.assert_close((odds[1] / odds[0]).item(), 4.0)
    assert NegativesConfig(per_positive=4).logit_shift == 0.0
