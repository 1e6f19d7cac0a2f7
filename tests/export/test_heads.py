"""Every head as ONNX, beside the detector itself: two sizes and a batch of three."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_run import ROOT, TINY
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.config.defaults import default_config
from dynamic_atss.data.frames import Reading
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.errors import UserError
from dynamic_atss.export import checking
from dynamic_atss.export.module import TensorDetector
from dynamic_atss.export.onnx_file import OnnxRunner, write_onnx
from dynamic_atss.export.tracing import traced
from dynamic_atss.inference.picture import read
from dynamic_atss.inference.restore import Restored

CLASSES = 4
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
BODY = f"{ROOT}/examples/plain_body.py:PlainBody"


def restored(*options, body=("MODEL.BACKBONE.CONV_BODY", BODY, "MODEL.BACKBONE.ARGS.width", 8)):
    """A small detector whose scores and boxes differ from place to place."""
    cfg = default_config()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(TINY))
    for key, value in zip(options[::2], options[1::2], strict=True):
        set_key(cfg, key, value)
    for key, value in zip(body[::2], body[1::2], strict=True):
        set_key(cfg, key, value)
    torch.manual_seed(0)
    detector = builders.build_model(cfg, CLASSES).eval().requires_grad_(False)
    for name, parameter in detector.head.named_parameters():
        if "cls_logits" in name:
            parameter.mul_(40) if parameter.ndim == 4 else parameter.fill_(-2.0)
        elif "bbox_pred.weight" in name:
            parameter.mul_(20)
        elif "branches.weight" in name:
            parameter.mul_(8)
        elif "branches.bias" in name:
            parameter[:CLASSES] = -2.0
    names = [f"class {k}" for k in range(CLASSES)]
    return Restored(detector, cfg, names, Reading(exif="apply"), Path("x"), torch.device("cpu"))


def set_key(cfg, key, value):
    section, _, name = key.rpartition(".")
    for part in section.split("."):
        cfg = cfg[part]
    cfg[name] = value


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "shapes"
    make_shapes(folder, train=1, val=3, size=128)
    first, second, third = (
        read(path, Reading()).image for path in sorted((folder / "val").glob("*.jpg"))
    )
    return [first, second[:, :90], third[:, :, :100]]


@pytest.fixture(scope="module")
def runtime():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install it")


@pytest.mark.parametrize("name", HEADS)
def test_onnx_finds_what_the_detector_finds(name, images, runtime, tmp_path):
    model = restored(*HEADS[name])
    program = traced(TensorDetector(model.detector).eval(), model.device)
    write_onnx(program, tmp_path / "x.onnx", {"a": "b"})
    run = OnnxRunner(tmp_path / "x.onnx")
    found = checking.check(run, model, images)
    assert found.count > 60 and found.box <= checking.BOX and found.score <= checking.SCORE
    assert run.session.get_modelmeta().custom_metadata_map["a"] == "b"
    assert_standard(tmp_path / "x.onnx")
    # A wide picture without anything in it, whose last maps have one row.
    sizes = torch.tensor([[40, 200]])
    given = torch.full((1, 3, 64, 224), 128, dtype=torch.uint8), sizes, sizes * 2
    for got, wanted in zip(run(*given), TensorDetector(model.detector)(*given), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-2)


def assert_standard(path):
    """Nothing but operators of ONNX itself, and no place of this machine."""
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
    assert total.count > 60 and total.lost == 0 and total.box == 0

    def moved(*given):
        boxes, *rest = right(*given)
        return boxes + 0.2, *rest

    def shorter(*given):
        boxes, scores, classes, counts = right(*given)
        return boxes[:, 1:], scores[:, 1:], classes[:, 1:], counts - 1

    for wrong in (moved, shorter):
        with pytest.raises(UserError, match="finds something else than PyTorch"):
            checking.check(wrong, model, images)


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
    whole = checking.Row(boxes, scores, classes)
    other = checking.Row(boxes[[0, 1, 2, 2]] + 0.05, scores, classes)
    assert checking.compare(whole, other, 4).lost == 0
    assert checking.compare(whole, other, 9).lost == 2
    assert checking.compare(whole, other, 4).box == pytest.approx(0.05, abs=1e-4)
    swapped = checking.Row(boxes, scores, torch.tensor([1, 0, 0, 0]))
    assert checking.compare(whole, swapped, 9).lost == 2
