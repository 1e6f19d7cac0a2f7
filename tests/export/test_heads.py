"""Compares every head in ONNX with the detector, on two sizes and a batch of three.

ATSS has all levels, the other heads have two.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_export import need_onnx, restored, two_levels
from helpers_run import ROOT

from dynamic_atss.errors import UserError
from dynamic_atss.export import checking
from dynamic_atss.export.module import TensorDetector
from dynamic_atss.export.onnx_file import OnnxRunner, write_onnx
from dynamic_atss.export.torch_file import libraries
from dynamic_atss.export.tracing import traced

OFF = ("MODEL.ATSS_ON", False)
HEADS = {
    "atss": (),
    "atss-points": ("MODEL.ATSS.REGRESSION_TYPE", "POINT"),
    "atss-distribution": ("MODEL.ATSS.REGRESSION_TYPE", "DISTRIBUTION"),
    "atss-deformable": ("MODEL.ATSS.USE_DCN_IN_TOWER", True),
    "fcos": (*OFF, "MODEL.FCOS_ON", True, "MODEL.FCOS.NUM_CONVS", 1),
    "retinanet": (*OFF, "MODEL.RETINANET_ON", True, "MODEL.RETINANET.NUM_CONVS", 1),
    "dsla": (*OFF, "MODEL.DSLA_ON", True, "MODEL.DSLA.NUM_CONVS", 1),
    "example": (
        *("MODEL.HEAD.NAME", f"{ROOT}/examples/shared_tower_head.py:SharedTowerHead"),
        *("MODEL.HEAD.ARGS.convs", 1),
    ),
}


@pytest.fixture(scope="module")
def runtime():
    need_onnx()


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_onnx_finds_what_the_detector_finds(name, images, runtime, tmp_path):
    deformable = name == "atss-deformable"
    if deformable:
        pytest.importorskip("onnxruntime", "1.25", reason="no deformable convolutions")
    model = restored(*HEADS[name])
    if name != "atss":
        two_levels(model)
    program = traced(TensorDetector(model.detector).eval(), model.device)
    assert libraries(program) == ["dynamic_atss", "torchvision"][: 1 + deformable]
    write_onnx(program, tmp_path / "x.onnx", {"a": "b"})
    run = OnnxRunner(tmp_path / "x.onnx")
    found = checking.check(run, model, images)
    assert found.count > 60 and found.box <= checking.BOX and found.score <= checking.SCORE
    assert run.session.get_modelmeta().custom_metadata_map["a"] == "b"
    assert_standard(tmp_path / "x.onnx")
    # A wide empty picture, whose last maps have one row.
    sizes = torch.tensor([[40, 200]])
    given = torch.full((1, 3, 64, 224), 128, dtype=torch.uint8), sizes, sizes * 2
    for got, wanted in zip(run(*given), TensorDetector(model.detector)(*given), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-2)


def assert_standard(path):
    """Checks that the file has only standard operators of ONNX, and no path of this machine."""
    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    kinds = {node.op_type for node in model.graph.node}
    assert {"NonMaxSuppression", "TopK"} <= kinds
    assert str(ROOT).encode() not in path.read_bytes()
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]


def test_the_rows_that_are_not_filled_hold_nothing(images):
    model = restored("MODEL.ATSS.INFERENCE_TH", 0.6)
    given = checking.inputs_of(checking.batch_of(model, images))
    boxes, scores, classes, counts = TensorDetector(model.detector)(*given)
    assert boxes.shape == (3, 100, 4) and counts.min() > 0 and counts.max() < 100
    for n, count in enumerate(counts.tolist()):
        assert (scores[n, :count] > 0).all() and (classes[n, :count] >= 0).all()
        assert not boxes[n, count:].any() and not scores[n, count:].any()
        assert (classes[n, count:] == -1).all()


def test_an_exported_model_that_differs_is_refused(images):
    model = restored()
    right = TensorDetector(model.detector)
    total = checking.check(right, model, images)
    assert total.count > 60 and total.unmatched == 0 and total.box == 0

    def moved(*given):
        boxes, scores, classes, counts = right(*given)
        return boxes + 0.2, scores, classes, counts

    def shorter(*given):
        boxes, scores, classes, counts = right(*given)
        return boxes[:, 1:], scores[:, 1:], classes[:, 1:], counts - 1

    for wrong in (moved, shorter):
        with pytest.raises(UserError, match="differs from PyTorch"):
            checking.check(wrong, model, images)


def test_a_check_that_compares_nothing_is_refused(images):
    model = restored()
    model.detector.postprocess.score_threshold = 1.0
    with pytest.raises(UserError, match=r"no object is found in \d+ pictures.*--check-images"):
        checking.check(TensorDetector(model.detector), model, images)


def test_what_cannot_be_traced_is_one_line(images):
    model = restored()

    class ByValue(type(model.detector.head)):
        def forward(self, features):
            return super().forward(features if features[0].sum() > 0 else features[::1])

    model.detector.head.__class__ = ByValue
    with pytest.raises(UserError, match="head ByValue over PlainBody: cannot be traced"):
        traced(TensorDetector(model.detector).eval(), model.device)
    model = replace(model, detector=restored().detector)
    model.detector.postprocess = lambda *a, **k: []
    with pytest.raises(UserError, match="post-processing function: cannot be exported"):
        TensorDetector(model.detector)


def test_comparison_knows_the_end_of_a_full_list():
    boxes = torch.tensor(np.eye(4) * 100, dtype=torch.float32)
    scores, classes = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4, dtype=torch.int64)
    full = checking.Row(boxes, scores, classes)
    other = checking.Row(boxes[[0, 1, 2, 2]] + 0.05, scores, classes)
    assert checking.compare(full, other, 4).unmatched == 0
    assert checking.compare(full, other, 9).unmatched == 2
    assert checking.compare(full, other, 4).box == pytest.approx(0.05, abs=1e-4)
    swapped = checking.Row(boxes, scores, torch.tensor([1, 0, 0, 0]))
    assert checking.compare(full, swapped, 9).unmatched == 2
