"""A model comes back from its files to the bit, and what is no model is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from din_model.errors import InputError
from din_model.registry.artifact import ModelMetadata, load, save
from pipelines.examples.negatives import NegativesConfig
from tests.din_model.conftest import some_batch, some_model

FACTS = ModelMetadata("2026-11-21", "abc", ["examples/2026-11-21/r"], 10, 10, {"din": {"auc": 0.7}})


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
    assert facts == FACTS
    assert loaded.spec == model.spec
    assert loaded.config == model.config
    batch = some_batch(50)
    assert torch.equal(loaded(batch), model.eval()(batch))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_an_artefact_is_json_and_safetensors(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "weights.safetensors"]
    json.loads((folder / "model.json").read_text())
    head = (folder / "weights.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert "tables.item__row_of" in json.loads(head[8 : 8 + size])


def test_another_format_version_is_refused(folder):
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"format_version": 1}))
    with pytest.raises(InputError, match="format version 1; this release reads 2"):
        load(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_or_truncated_file_is_refused_with_its_folder(folder, name):
    whole = (folder / name).read_bytes()
    for damage in (lambda p: p.write_bytes(whole[: len(whole) // 2]), lambda p: p.unlink()):
        damage(folder / name)
        with pytest.raises(InputError, match=f"{folder.name}: not a DIN model"):
            load(folder)


def without_spec(folder):
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({k: v for k, v in about.items() if k != "spec"}))


def with_a_weight_too_many(folder):
    weights = {name: w.clone() for name, w in load_file(folder / "weights.safetensors").items()}
    save_file(weights | {"more": torch.zeros(2)}, folder / "weights.safetensors")


def with_a_weight_of_another_shape(folder):
    weights = {name: w.clone() for name, w in load_file(folder / "weights.safetensors").items()}
    save_file(weights | {"tower.0.bias": torch.zeros(2)}, folder / "weights.safetensors")


def with_a_list(folder):
    (folder / "model.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [without_spec, with_a_weight_too_many, with_a_weight_of_another_shape, with_a_list],
)
def test_a_damaged_model_is_reported_in_one_line(folder, damage):
    damage(folder)
    with pytest.raises(InputError, match=f"{folder.name}: not a DIN model") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_scores_are_shifted_from_the_sampled_click_rate_to_the_configured_one():
    drawn = NegativesConfig(per_positive=4, base_rate=0.02)
    facts = ModelMetadata("2026-11-21", "f", logit_shift=drawn.logit_shift)
    # Among drawn rows one in five is a click; a model that says so means the base rate.
    logit = torch.logit(torch.tensor([0.2, 0.5]))
    published = facts.probability(logit)
    odds = published / (1 - published)
    torch.testing.assert_close(published[0].item(), 0.02)
    torch.testing.assert_close((odds[1] / odds[0]).item(), 4.0)
    assert NegativesConfig(per_positive=4).logit_shift == 0.0
