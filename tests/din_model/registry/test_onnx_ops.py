"""The ONNX translations of segment operations against NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Segments(nn.Module):
    """Both operations on segments of the given lengths [R] over values [N, 3]."""

    def forward(self, lengths: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.arange(values.shape[0])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        modes = ("sum", "mean")
        total, mean = (
            embedding_bag(ids, values, offsets, mode=mode, include_last_offset=True)
            for mode in modes
        )
        segment = torch.repeat_interleave(lengths, output_size=values.shape[0])
        return segment, total, mean


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    from din_model.registry.onnx_ops import TRANSLATIONS  # needs onnxscript

    path = tmp_path_factory.mktemp("onnx") / "segments.onnx"
    shapes = {0: torch.export.Dim("rows", min=0)}, {0: torch.export.Dim("values", min=0)}
    program = torch.export.export(
        Segments(), (torch.tensor([2, 0, 3]), torch.randn(5, 3)), dynamic_shapes=shapes
    )
    torch.onnx.export(
        program, dynamo=True, custom_translation_table=TRANSLATIONS, verbose=False
    ).save(path)
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0], [0, 4, 0, 0], [1]], ids=str)
def test_segments_of_any_length_are_numbered_summed_and_averaged(session, lengths):
    of_each = np.array(lengths, np.int64)
    values = np.random.default_rng(0).standard_normal((of_each.sum(), 3)).astype(np.float32)
    names = [i.name for i in session.get_inputs()]
    segment, total, mean = session.run(None, dict(zip(names, (of_each, values), strict=True)))
    parts = np.split(values, of_each.cumsum()[:-1])
    assert segment.tolist() == np.repeat(np.arange(len(lengths)), of_each).tolist()
    np.testing.assert_allclose(total, [part.sum(0) for part in parts], atol=1e-6)
    expected = [part.mean(0) if len(part) else np.zeros(3) for part in parts]
    np.testing.assert_allclose(mean, expected, atol=1e-6)
