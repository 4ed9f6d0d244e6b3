"""Given vectors enter through a projection, stay as they are, and tell of newer items."""

from dataclasses import replace

import numpy as np
import torch

from din_model.data.batch import from_columns
from din_model.features import Feature, History
from din_model.modules.din import DIN, ModelConfig, new_model
from din_model.modules.vectors import GivenVectors
from din_model.registry.artifact import ModelMetadata, load, save
from din_model.training.config import TrainConfig
from din_model.training.trainer import Trainer
from tests.din_model.conftest import draw_output, small_spec, some_columns

SIZE, IDS = 5, 12


def spec_with_vectors():
    vector = Feature("look", "item", "vector", "look", 4, size=SIZE)
    history = History("clicks", 6, 0, {"item": "item", "look": "look"})
    spec = small_spec()
    return replace(spec, features=(*spec.features, vector), histories=(history,))


def columns_with_vectors(rows: int) -> dict[str, np.ndarray]:
    columns = some_columns(rows)
    rng = np.random.default_rng(4)
    inside = columns["clicks__item"] > 0
    columns["look"] = rng.integers(1, IDS, rows)
    columns["clicks__look"] = rng.integers(1, IDS, inside.shape) * inside
    return columns


def vectors() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(IDS, SIZE)).astype(np.float32)
    values[:2] = 0
    return {"look": values}


def model_with_vectors() -> DIN:
    rows = {"user": 20, "item": 30, "tags": 9}
    id_to_row = {name: torch.arange(n, dtype=torch.int32) for name, n in rows.items()}
    config = ModelConfig(attention=(8, 4), tower=(10,))
    model = new_model(spec_with_vectors(), config, id_to_row, seed=3, vectors=vectors())
    draw_output(model)
    return model


def test_a_missing_or_newer_vector_is_zero_with_a_flag():
    table = GivenVectors(SIZE, 4)
    table.hold(torch.from_numpy(vectors()["look"]))
    out = table(torch.tensor([0, 1, IDS, 3]))
    assert out[:3].abs().sum() == 0
    assert out[3, -1] == 1
    assert out[3, :-1].abs().min() > 0


def test_training_and_evaluation_project_alike():
    table, ids = GivenVectors(SIZE, 4), torch.tensor([3, 5, 3, 1, 99])
    table.hold(torch.from_numpy(vectors()["look"]))
    torch.testing.assert_close(table.train()(ids), table.eval()(ids))


def test_vectors_of_any_length_have_mean_length_one_before_the_projection():
    table = GivenVectors(SIZE, 4)
    table.hold(torch.from_numpy(vectors()["look"] * 1000))
    table.measure()
    lengths = (table.values[2:] * table.scale).norm(dim=1)
    assert abs(float(lengths.mean()) - 1) < 1e-5


def test_a_step_moves_the_projection_and_no_vector():
    model, columns = model_with_vectors(), columns_with_vectors(32)
    examples = {name: torch.ones(len(model.tables.weight(name))) for name in model.tables.sizes}
    held = model.given_vectors["look"]
    before = held.values.clone(), held.projection.weight.detach().clone()
    Trainer(model, TrainConfig(), examples).step(from_columns(columns, model.spec), 32)
    assert torch.equal(held.values, before[0])
    assert not torch.equal(held.projection.weight, before[1])


def test_items_unknown_to_the_model_differ_by_their_vectors():
    model = model_with_vectors().eval()
    columns = {name: values[:1].repeat(2, 0) for name, values in columns_with_vectors(8).items()}
    columns["item"] = np.array([1000, 1001])
    columns["look"] = np.array([IDS, IDS + 1])
    batch = from_columns(columns, model.spec)
    assert torch.isclose(*model(batch)), "the model has no vector of either"
    newer = np.vstack([vectors()["look"], np.eye(2, SIZE, dtype=np.float32)])
    model.hold_vectors({"look": newer})
    assert not torch.isclose(*model(batch))


def test_the_vectors_of_behaviours_count():
    model, columns = model_with_vectors().eval(), columns_with_vectors(16)
    before = model(from_columns(columns, model.spec))
    columns["clicks__look"] = np.where(columns["clicks__look"] > 0, 2, 0)
    changed = (model(from_columns(columns, model.spec)) != before).numpy()
    assert (changed == (columns["clicks__length"] > 0)).all()


def test_a_saved_model_has_its_vectors(tmp_path):
    model, columns = model_with_vectors().eval(), columns_with_vectors(16)
    batch = from_columns(columns, model.spec)
    save(tmp_path / "model", model, ModelMetadata("2026-11-22", "f"))
    loaded, _ = load(tmp_path / "model")
    assert torch.equal(loaded(batch), model(batch))
