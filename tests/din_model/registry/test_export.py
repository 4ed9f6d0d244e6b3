"""An exported program says what the model says, wherever it is loaded."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from din_model.config import load as load_settings
from din_model.data.batch import from_columns
from din_model.errors import InputError
from din_model.features import AGE_BUCKETS, Counter, Feature, FeatureSpec, History
from din_model.modules.din import DIN, ModelConfig, new_model
from din_model.registry import tracking, versions
from din_model.registry.artifact import ModelMetadata, load, save
from din_model.registry.export import TOLERANCE, export, input_axes
from din_model.registry.tracking import TrackingConfig
from jobs import export as job
from jobs.cli import Settings
from tests.din_model.conftest import some_model

FACTS = ModelMetadata("2026-11-21", "f", logit_shift=-0.7)
IDS = 30
LONGEST = {"tags__length": 4, "brand__length": 1, "clicks__length": 6, "carts__length": 1}
DEMO = Path(__file__).parents[3] / "conf" / "demo.yaml"
Columns = dict[str, np.ndarray]

MODELS = {
    "din": ModelConfig(),
    "din-paper": ModelConfig(softmax=False, wide=500, activation="prelu", item_bias=False),
    "mean": ModelConfig(encoder="mean", activation="sigmoid"),
    "personas": ModelConfig(encoder="personas", wide=500, activation="relu"),
}


def full_spec() -> FeatureSpec:
    """Every sort of input: lists (one of at most one), buckets, ages, a history of one, no input.

    Item and category are mirrored together, and a category alone.
    """
    spec = FeatureSpec(
        user="user", item="item", time="time", time_zone="UTC", cutoff="day", label="label",
        weight="weight",
        features=(
            Feature("user", "user", "string", "user", 4),
            Feature("item", "item", "int64", "item", 8),
            Feature("category", "item", "string", "category", 5),
            Feature("tags", "item", "string", "tags", 3, max_length=4),
            Feature("brand", "item", "string", "brand", 2, max_length=1),
            Feature("price", "item", "number", "price", 2, boundaries=(1.0, 2.0)),
            Feature("hidden", "item", "string", "hidden", 0),
            Feature("stock", "item", "number", "stock", 0, scale="log", center=2.0, spread=3.0),
        ),
        histories=(
            History("clicks", 6, 0, {"item": "item", "category": "category"}, age=True),
            History("carts", 1, 0, {"category": "category"}),
        ),
        counters=(
            Counter("by_item", "impressions", ("item",), (1, 0)),
            Counter("carts_by_category", "carts", ("category",), (7,)),
        ),
    )  # fmt: skip
    return FeatureSpec.from_json(spec.to_json())  # as every registered model has it


def full_model(config: ModelConfig) -> DIN:
    """A model whose weights and statistics are all its own, and whose logits stay small."""
    spec = full_spec()
    id_to_row = {name: torch.arange(IDS, dtype=torch.int32) for name in spec.dimensions}
    id_to_row["user"][7:12] = 1  # too rare: they read the unknown row
    model = new_model(spec, config, id_to_row, seed=3)
    drawn = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weights in model.state_dict().items():
            if weights.is_floating_point():
                std = 0.4 if name.startswith("tables") else 0.05
                weights.add_(torch.randn(weights.shape, generator=drawn) * std)
    return model.eval().requires_grad_(False)


def some_columns(rows: int, seed: int, width: int | None = None, share: float = -1) -> Columns:
    """Ids reach beyond the tables. ``share`` of each list is filled; at random where negative."""
    rng, spec, columns = np.random.default_rng(seed), full_spec(), {}
    for name, axes in input_axes(spec).items():
        if name.endswith("__length"):
            most = width or LONGEST[name]
            columns[name] = (
                rng.integers(0, most + 1, rows) if share < 0 else np.full(rows, int(most * share))
            )
        elif name == "stock":
            columns[name] = np.where(rng.random(rows) < 0.3, np.nan, rng.normal(size=rows))
            columns[name] = columns[name].astype(np.float32)
        elif name in spec.numeric_columns:
            columns[name] = rng.integers(-1, 50, rows).astype(np.float32)
        else:
            places = [width or LONGEST[axis] for axis in axes[1:]]
            high = AGE_BUCKETS if name == "clicks__age" else IDS + 10
            columns[name] = rng.integers(0, high, (rows, *places))
    return columns


def published(model: DIN, columns: Columns) -> torch.Tensor:
    """The oracle: the path by which stored examples are scored."""
    return FACTS.probability(model(from_columns(columns, model.spec)))


@dataclass(frozen=True)
class Written:
    model: DIN
    folder: Path
    program: torch.nn.Module
    no_onnx: str | None


SOME = [pytest.param(name, marks=[pytest.mark.slow] * (name != "din")) for name in MODELS]


@pytest.fixture(scope="module", params=SOME)
def written(request, tmp_path_factory) -> Written:
    """A model that went through its registered form, and its export."""
    folder = tmp_path_factory.mktemp("export")
    save(folder / "registered", full_model(MODELS[request.param]), FACTS)
    model, facts = load(folder / "registered")
    no_onnx = export(model, facts, "m", 7, folder / "out")
    program = torch.export.load(folder / "out" / "model.pt2").module()
    return Written(model, folder / "out", program, no_onnx)


BATCHES = [
    pytest.param({"rows": 1, "share": 0}, id="one row without any history"),
    pytest.param({"rows": 1, "share": 1}, id="one row, full"),
    pytest.param({"rows": 9, "share": 0}, id="no history anywhere"),
    pytest.param({"rows": 9, "share": 1}, id="every list full"),
    pytest.param({"rows": 300}, id="many rows"),
    pytest.param({"rows": 20, "width": 1}, id="lists of one"),
    pytest.param({"rows": 20, "width": 60}, id="longer lists than in training"),
    pytest.param({"rows": 0}, id="no row"),
]


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    width=st.none() | st.integers(1, 12),
    share=st.sampled_from([-1, -1, 0, 0.5, 1]),
)
def test_a_program_gives_the_published_probability_of_any_batch(written, rows, seed, width, share):
    columns = some_columns(rows, seed, width, share)
    found = written.program({name: torch.from_numpy(v) for name, v in columns.items()})
    assert found.dtype == torch.float64
    wanted = published(written.model, columns)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("batch", BATCHES)
def test_edge_batches_equal_the_published_probability(written, batch):
    columns = some_columns(seed=5, **batch)
    found = written.program({name: torch.from_numpy(v) for name, v in columns.items()})
    wanted = published(written.model, columns)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)
    if len(wanted) > 9:
        assert wanted.std() > 0.01  # and they are not all the same number


def test_onnx_gives_the_same(written):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert written.no_onnx is None
    session = onnxruntime.InferenceSession(written.folder / "model.onnx")
    axes = {i.name: tuple(i.shape) for i in session.get_inputs()}
    assert list(axes.items()) == list(input_axes(written.model.spec).items())
    for batch in BATCHES:
        columns = some_columns(seed=6, **batch.values[0])
        found = session.run(["probability"], columns)[0]
        wanted = published(written.model, columns).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE, err_msg=batch.id)


@pytest.mark.parametrize("written", ["din"], indirect=True)
def test_inputs_are_matched_by_name_and_checked_for_size(written):
    columns = {n: torch.from_numpy(v) for n, v in some_columns(4, seed=1).items()}
    wanted = written.program(columns)
    turned = {"item": columns["item"], "user": columns["user"]} | columns
    assert torch.equal(written.program(turned), wanted)
    with pytest.raises(RuntimeError, match=r"'tags'.*to be equal to 4, but got 2"):
        written.program(columns | {"tags": columns["tags"][:2]})
    with pytest.raises(ValueError, match=r"(?s)spec"):
        written.program({n: v for n, v in columns.items() if n != "user"})


@pytest.mark.parametrize("written", ["din"], indirect=True)
def test_a_length_beyond_its_list_counts_as_the_whole_list(written):
    columns = {n: torch.from_numpy(v) for n, v in some_columns(4, seed=1, share=1).items()}
    beyond = columns | {n: v + 5 for n, v in columns.items() if n.endswith("__length")}
    assert torch.equal(written.program(beyond), written.program(columns))


ELSEWHERE = """
import importlib.util, json, sys
sys.path.append(sys.argv[2])
import torch
assert importlib.util.find_spec("din_model") is None
about = json.load(open(sys.argv[1] + "/inputs.json"))
sizes = about["longest"] | {"batch": 3}
inputs = {
    i["name"]: torch.ones([sizes[a] for a in i["shape"]], dtype=getattr(torch, i["dtype"]))
    for i in about["inputs"]
}
program = torch.export.load(sys.argv[1] + "/model.pt2").module()
print(json.dumps(program(inputs).tolist()))
"""


@pytest.mark.parametrize("written", ["din"], indirect=True)
def test_a_program_needs_only_torch_and_its_description(written):
    # Without site (-S) no .pth file puts the repository on the path.
    command = [sys.executable, "-I", "-S", "-c", ELSEWHERE]
    command += [str(written.folder), sysconfig.get_path("purelib")]
    done = subprocess.run(command, cwd=written.folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ones = {name: np.ones_like(v) for name, v in some_columns(3, seed=0).items()}
    np.testing.assert_allclose(json.loads(done.stdout), published(written.model, ones), atol=1e-5)


@pytest.mark.parametrize("written", ["din"], indirect=True)
def test_the_description_lists_inputs_in_order_output_and_origin(written):
    about = json.loads((written.folder / "inputs.json").read_text())
    assert [(i["name"], i["dtype"], len(i["shape"])) for i in about["inputs"]] == [
        (name, str(values.dtype), values.ndim) for name, values in some_columns(2, seed=0).items()
    ]
    names = [i["name"] for i in about["inputs"]]
    assert names[:5] == ["user", "item", "category", "tags", "tags__length"]
    assert not {"label", "weight", "hidden"} & set(names)
    assert about["longest"] == LONGEST
    assert about["output"] == {"name": "probability", "dtype": "float64", "shape": ["batch"]}
    origin = [about[key] for key in ("model", "version", "trained_through")]
    assert origin == ["m", 7, "2026-11-21"]


@pytest.mark.parametrize("written", ["din"], indirect=True)
def test_nothing_in_a_program_is_pickled(written):
    with zipfile.ZipFile(written.folder / "model.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    of_tensors = [text for name, text in parts.items() if name.endswith("s_config.json")]
    assert len(of_tensors) == 2  # weights and constants
    for text in of_tensors:
        assert not [n for n, t in json.loads(text)["config"].items() if t["use_pickle"]]
    others = {n: part for n, part in parts.items() if "/weights/weight_" not in n}
    # Protocol 2 and later begin with 0x80; torch.save zips its pickle.
    assert not [n for n, part in others.items() if part[:2] == b"PK" or part[:1] == b"\x80"]


def test_an_earlier_export_is_replaced_completely(tmp_path, no_onnxscript):
    model, folder = some_model().eval().requires_grad_(False), tmp_path / "out"
    export(model, FACTS, "m", 1, folder)
    (folder / "model.onnx").write_text("of version 1")
    said = export(model, FACTS, "m", 2, folder)
    assert said == "onnxscript is not installed: pip install 'din-pipeline[onnx]'"
    assert sorted(p.name for p in folder.iterdir()) == ["inputs.json", "model.pt2"]
    assert json.loads((folder / "inputs.json").read_text())["version"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "inputs.json").write_text('{"my": "own"}')
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"other files than an earlier .* another export\.path"
        ):
            export(some_model().eval().requires_grad_(False), FACTS, "m", 1, tmp_path)
        assert {p.name for p in tmp_path.iterdir()} >= {"notes.txt", "inputs.json"}
        (tmp_path / "model.pt2").touch()
    with pytest.raises(InputError, match=r"other files than an earlier export"):
        export(some_model().eval().requires_grad_(False), FACTS, "m", 1, tmp_path / "notes.txt")


def test_the_job_writes_the_version_that_is_asked_for(tmp_path, monkeypatch, capsys, no_onnxscript):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = [f"store.path={tmp_path}", "tracking.model=m", f"export.path={tmp_path}/out"]
    tracking.connect(TrackingConfig(experiment="din-demo"), f"file://{tmp_path}")
    with tracking.run("test", {}, {}):
        for day in ("2026-11-20", "2026-11-21"):
            save(tmp_path / day, some_model(), ModelMetadata(day, day))
            versions.register("m", tmp_path / day, day, {})
    versions.promote("m", 1)
    for wanted, version, day in (([], 1, "2026-11-20"), (["export.model=2"], 2, "2026-11-21")):
        job.run(load_settings(Settings, [str(DEMO)], words + wanted), None)
        about = json.loads((tmp_path / "out" / "inputs.json").read_text())
        assert (about["version"], about["trained_through"]) == (version, day)
        said = " ".join(capsys.readouterr().out.split())
        assert f"m, version {version}" in said
        assert "no model.onnx: onnxscript is not" in said


def test_the_job_requires_a_folder(tmp_path):
    settings = load_settings(Settings, [str(DEMO)], [f"store.path={tmp_path}"])
    with pytest.raises(InputError, match=r"export\.path is missing"):
        job.run(settings, None)


@pytest.fixture
def no_onnxscript(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed: importing it fails."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "din_model.registry.onnx_ops", raising=False)
