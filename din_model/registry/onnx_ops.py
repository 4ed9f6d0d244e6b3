"""ONNX translations of two operations on segments; needs onnxscript.

torch's own translations take one step per segment for a sum, and a matrix of segments by values to
find a value's segment. Here the first position after each segment is marked, and the number of
marks before a value is the number of its segment.
"""

from typing import Any

import torch
from onnxscript import opset18

op: Any = opset18  # its annotations omit the plain numbers that it accepts


def _segment_of_each(ends: Any, values: Any) -> Any:
    """Ends of the segments [R] and the number of values [1] -> the segment of each value [N]."""
    places = op.Add(values, op.Constant(value_ints=[1]))
    nothing = op.Expand(op.Constant(value_ints=[0]), places)
    one = op.Expand(op.Constant(value_ints=[1]), op.Shape(ends))
    marks = op.ScatterElements(nothing, ends, one, axis=0, reduction="add")
    return op.Slice(op.CumSum(marks, op.Constant(value_int=0)), [0], [-1], [0])


def repeat_interleave(repeats: Any, output_size: int | None = None) -> Any:
    """Repeats [R] -> 0 .. R - 1, each repeated [N]."""
    values = op.ReduceSum(repeats, [0], keepdims=1)
    return _segment_of_each(op.CumSum(repeats, op.Constant(value_int=0)), values)


# Nine parameters: the signature of torch's operator.
def embedding_bag(
    weight: Any, indices: Any, offsets: Any, scale_grad_by_freq: bool, mode: int, sparse: bool,
    per_sample_weights: Any, include_last_offset: bool, padding_idx: int | None,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Sum (mode 0) or mean (1) of each segment, as modules.segments.segment_reduce uses it."""
    assert mode in (0, 1)
    assert include_last_offset
    assert per_sample_weights is None
    starts, ends = op.Slice(offsets, [0], [-1], [0]), op.Slice(offsets, [1], [2**62], [0])
    run = _segment_of_each(ends, op.Shape(indices))
    shape = op.Concat(op.Shape(starts), op.Shape(weight, start=1), axis=0)
    nothing = op.Expand(op.Constant(value_floats=[0.0]), shape)
    values = op.Gather(weight, indices, axis=0)
    pooled = op.ScatterND(nothing, op.Unsqueeze(run, [1]), values, reduction="add")
    lengths = op.Sub(ends, starts)
    if mode == 1:
        divisor = op.Cast(op.Max(lengths, op.Constant(value_ints=[1])), to=1)  # 1: float32
        pooled = op.Div(pooled, op.Unsqueeze(divisor, [1]))
    return pooled, lengths, lengths, lengths  # only the first is ever read


TRANSLATIONS: Any = {
    torch.ops.aten.embedding_bag.padding_idx: embedding_bag,
    torch.ops.aten.repeat_interleave.Tensor: repeat_interleave,
}
