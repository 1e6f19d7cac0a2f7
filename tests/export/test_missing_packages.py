"""Tests the errors for what a format or its runtime lacks: one line, and no file."""

import pytest
import torch
from helpers_export import need_onnx, restored, two_levels

from dynamic_atss.errors import UserError
from dynamic_atss.export import run, torch_file
from dynamic_atss.export.onnx_file import OnnxRunner


def with_bessel(model):
    """Gives the model a custom head with a function that ONNX lacks."""

    class Bessel(type(model.detector.head)):
        def forward(self, features):
            return super().forward([torch.special.bessel_j0(x) for x in features])

    model.detector.head.__class__ = Bessel
    return model


@pytest.mark.slow
def test_an_operator_that_onnx_lacks(tmp_path, images, monkeypatch):
    need_onnx()
    model = with_bessel(two_levels(restored()))
    monkeypatch.setattr(run, "restore", lambda *args, **more: model)
    monkeypatch.setattr(run, "pictures", lambda *args: (images, "a test"))
    message = r"^--format onnx: ONNX has no operator for \w+\.\w*bessel_j0; use --format torch"
    with pytest.raises(UserError, match=message) as caught:
        run.export("x", tmp_path / "new" / "x.onnx", "onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_operator_that_onnxruntime_lacks(tmp_path):
    need_onnx()
    from onnx import TensorProto, helper, save

    node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="nowhere")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets)
    save(model, tmp_path / "x.onnx")
    with pytest.raises(UserError, match=r"cannot run the model .*NoSuchOperator") as caught:
        OnnxRunner(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_a_compiler_that_aoti_lacks(tmp_path, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"^--format aoti: no C\+\+ compiler is found; install"):
        torch_file.write_aoti(None, tmp_path / "x.pt2", {})
    assert not list(tmp_path.iterdir())
