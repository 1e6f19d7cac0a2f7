"""Tests that a trace holds for every size, with bodies that pad maps or cut them into windows."""

import pytest
import torch
from helpers_export import need_onnx, restored, two_levels

from dynamic_atss.export import checking
from dynamic_atss.export.module import TensorDetector
from dynamic_atss.export.onnx_file import OnnxRunner, write_onnx
from dynamic_atss.export.timm_padding import same_padding
from dynamic_atss.export.tracing import traced
from dynamic_atss.modeling.backbones import swin

# Swin's coarsest maps are shifted above 224 pixels.
LARGE = ("INPUT.MIN_SIZE_TEST", 256, "INPUT.MAX_SIZE_TEST", 320)
BODIES = {
    # The size of its "same" padding depends on the size of the map.
    "timm": "timm/tf_mobilenetv3_small_minimal_100",
    "swin": "SWIN-T-FPN-RETINANET",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_a_body_for_all_sizes(name, images, tmp_path, monkeypatch):
    need_onnx()
    if name == "timm":
        pytest.importorskip("timm")
    monkeypatch.setitem(swin.SIZES, "T", (8, [1, 1, 1, 2], [1, 1, 2, 2], 0.0))
    body = "MODEL.BACKBONE.CONV_BODY", BODIES[name], "MODEL.RESNETS.NORM", ""
    model = two_levels(restored(*LARGE, body=body))
    program = traced(TensorDetector(model.detector).eval(), model.device)
    write_onnx(program, tmp_path / "x.onnx", {})
    run = OnnxRunner(tmp_path / "x.onnx")
    for exported in (program.module(), run):
        assert checking.check(exported, model, images).count > 60
    # The height is one window, and not a multiple of 32.
    sizes = torch.tensor([[40, 200]])
    given = torch.randint(0, 256, (1, 3, 50, 211), dtype=torch.uint8), sizes, sizes * 2
    wanted = TensorDetector(model.detector)(*given)
    for exported in (program.module(), run):
        for got, want in zip(exported(*given), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-2)


def test_the_padding_of_a_traced_timm_model_is_timms():
    padding = pytest.importorskip("timm.layers.padding")
    for size in range(1, 40):
        for kernel, stride, dilation in ((1, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2), (2, 3, 1)):
            given = size, kernel, stride, dilation
            assert same_padding(*given) == padding.get_same_padding(*given)
