"""Compares the exported forms of NMS with the operator."""

import pytest
import torch
from torch import nn

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.export.torch_nms import greedy_nms
from dynamic_atss.ops.nms import batched_multiclass_nms

CONVENTIONS = list(BoxConvention)


def scene(seed, images=3, count=60):
    """Makes boxes at integer pixels that overlap much. Some are empty or inverted.

    The scores have ties and zeros.
    """
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 30, (images, count, 2), generator=generator)
    side = torch.randint(-1, 25, (images, count, 2), generator=generator)
    boxes = torch.cat((corner, corner + side), 2).float()
    scores = torch.randint(0, 9, (images, count), generator=generator) / 8
    return boxes, scores, torch.randint(0, 3, (images, count), generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("limit", [7, 60, 200])
def test_the_loop_keeps_the_same_boxes(convention, limit):
    for seed in range(4):
        for threshold in (0.0, 0.3, 0.6, 1.0):
            given = (*scene(seed), threshold, convention, limit)
            wanted, counts = batched_multiclass_nms(*given)
            keep, found = greedy_nms(*given)
            assert counts.min() > 2
            assert torch.equal(found, counts) and torch.equal(keep, wanted)


class Suppress(nn.Module):
    def __init__(self, convention, limit):
        super().__init__()
        self.arguments = 0.45, convention, limit

    def forward(self, boxes, scores, classes):
        return batched_multiclass_nms(boxes, scores, classes, *self.arguments)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_operators_of_onnx_keep_the_same_boxes(convention, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from dynamic_atss.export.onnx_nms import batched_multiclass_nms as onnx_nms

    module, path = Suppress(convention, 40), tmp_path / "nms.onnx"
    sizes = {0: torch.export.Dim("n"), 1: torch.export.Dim("k", min=2)}
    program = torch.export.export(module, scene(0), dynamic_shapes=(sizes, sizes, sizes))
    table = {torch.ops.dynamic_atss.batched_multiclass_nms.default: onnx_nms}
    options = {"custom_translation_table": table, "opset_version": 20, "verbose": False}
    torch.onnx.export(program, dynamo=True, **options).save(path)
    session = runtime.InferenceSession(path)
    names = [x.name for x in session.get_inputs()]
    for seed, images, count in ((0, 3, 60), (1, 1, 25), (2, 4, 90), (3, 2, 2)):
        given = scene(seed, images, count)
        inputs = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        keep, counts = map(torch.from_numpy, session.run(None, inputs))
        wanted = module(*given)
        assert torch.equal(counts, wanted[1]) and torch.equal(keep, wanted[0])
