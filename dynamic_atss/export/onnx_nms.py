"""Expresses the project's NMS operator by operators of ONNX."""

from __future__ import annotations

from typing import Any

from onnxscript import opset18 as op


def batched_multiclass_nms(
    boxes: Any, scores: Any, classes: Any, threshold: float, offset: float, limit: int | None
) -> tuple[Any, Any]:
    """Does the same as `dynamic_atss.ops.nms.batched_multiclass_nms`.

    Args:
        boxes, scores, classes: (N, K, 4), (N, K) and (N, K).
        offset: 1 for the legacy convention (x2 - x1 + 1 wide), else 0.
    """
    low, high = op.Split(boxes, num_outputs=2, axis=2)
    # Inverted boxes must suppress nothing, but ONNX would swap their corners: makes them empty.
    edges = op.Max(op.Add(high, offset), low)
    corners = op.Concat(low, edges, axis=2)
    rows = op.Shape(scores)  # N, K
    count = op.Shape(scores, start=1)
    most = count if limit is None else op.Min(count, op.Constant(value_ints=[limit]))
    kinds = op.Range(0, op.Add(op.ReduceMax(classes, keepdims=0), 1), 1)
    same_class = op.Equal(op.Unsqueeze(classes, [1]), op.Unsqueeze(kinds, [0, 2]))
    by_class = op.Where(same_class, op.Unsqueeze(scores, [1]), 0.0)
    chosen = op.NonMaxSuppression(corners, by_class, most, threshold, 0.0)
    places = op.Gather(chosen, [0, 2], axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(chosen, end=1))
    kept = op.ScatterND(op.Expand(op.Constant(value_float=0.0), rows), places, ones)
    left, keep = op.TopK(op.Mul(kept, scores), most)
    counts = op.ReduceSum(op.Cast(op.Greater(left, 0.0), to=7), [1], keepdims=0)
    return op.Where(op.Greater(left, 0.0), keep, -1), counts
