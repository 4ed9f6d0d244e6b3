"""The vectors that are written for indices are those that the model reads."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from din_model.features import UNKNOWN
from din_model.modules.din import DIN, ModelConfig, new_model
from din_model.registry.vectors import write_vectors
from tests.din_model.conftest import small_spec

RARE, NEWER = 7, 30


def a_model(user_dimension: int = 4, **config: object) -> DIN:
    """A model that knows the items 2 to 29 but ``RARE``, with an item bias of its own for each."""
    spec = small_spec()
    user = replace(spec["user"], dimension=user_dimension)
    spec = replace(spec, features=(user, *spec.features[1:]))
    rows = {"user": 20, "item": NEWER, "tags": 9}
    id_to_row = {n: torch.arange(rows[n], dtype=torch.int32) for n in spec.dimensions}
    id_to_row["item"][RARE] = UNKNOWN
    model = new_model(spec, ModelConfig(**config), id_to_row, seed=3)
    if "item_bias" in model.tables.sizes:
        bias = model.tables.weight("item_bias")
        bias.copy_(torch.arange(len(bias))[:, None])
    return model.eval().requires_grad_(False)


def keys(*rows: tuple[str, str, int]) -> list[pa.RecordBatch]:
    """The vocabulary, in batches of two rows."""
    names = ["vocabulary", "key", "id"]
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names)
    return table.to_batches(max_chunksize=2)


KEYS = keys(
    ("item", "a", 5), ("user", "u", 3), ("item", "rare", RARE), ("tags", "t", 4),
    ("item", "newer", NEWER), ("user", "v", 2), ("item", "b", 4),
)  # fmt: skip


def test_an_item_has_its_key_its_vector_and_its_bias(tmp_path: Path):
    model = a_model()
    write_vectors(model, KEYS, tmp_path / "vectors")
    found = pq.read_table(tmp_path / "vectors" / "item.parquet")
    assert found.schema.field("vector").type == pa.list_(pa.float32(), 8)
    assert found.column("key").to_pylist() == ["a", "b"], "neither rare nor newer ids"
    [read] = model.tables([("item", torch.tensor([5, 4]))])
    torch.testing.assert_close(torch.tensor(found.column("vector").to_pylist()), read)
    assert found.column("bias").to_pylist() == [5, 4]


def test_a_user_has_a_key_and_the_vector_of_the_id(tmp_path: Path):
    model = a_model()
    write_vectors(model, KEYS, tmp_path / "vectors")
    found = pq.read_table(tmp_path / "vectors" / "user.parquet")
    assert found.column_names == ["key", "vector"]
    assert found.column("key").to_pylist() == ["u", "v"]
    [read] = model.tables([("user", torch.tensor([3, 2]))])
    torch.testing.assert_close(torch.tensor(found.column("vector").to_pylist()), read)


def test_a_feature_without_a_table_has_no_file(tmp_path: Path):
    write_vectors(a_model(user_dimension=0), KEYS, tmp_path / "vectors")
    assert [path.name for path in (tmp_path / "vectors").iterdir()] == ["item.parquet"]


def test_a_model_without_item_bias_writes_none(tmp_path: Path):
    write_vectors(a_model(item_bias=False), KEYS, tmp_path / "vectors")
    found = pq.read_table(tmp_path / "vectors" / "item.parquet")
    assert found.column_names == ["key", "vector"]
    assert len(found) == 2


@pytest.mark.parametrize("batches", [[], keys(("tags", "t", 4))], ids=["none", "others"])
def test_a_vocabulary_without_items_gives_an_empty_table(tmp_path: Path, batches):
    write_vectors(a_model(), batches, tmp_path / "vectors")
    assert len(pq.read_table(tmp_path / "vectors" / "item.parquet")) == 0
