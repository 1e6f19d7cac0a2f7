"""Writes the traced detector as an ONNX file of standard operators, and runs such a file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from dynamic_atss.errors import UserError
from dynamic_atss.export.module import INPUTS, OUTPUTS

OPSET = 20  # deformable convolution needs 19 or later
SHAPES = {
    "images": ("batch", 3, "height", "width"),
    "sizes": ("batch", 2),
    "original_sizes": ("batch", 2),
}


def write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Writes one file that contains the weights.

    Raises:
        UserError: ONNX lacks an operator of the model.
    """
    import onnx

    from dynamic_atss.export.onnx_nms import batched_multiclass_nms

    table: dict[Any, Any] = {
        torch.ops.dynamic_atss.batched_multiclass_nms.default: batched_multiclass_nms
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about functions that it calls
            made: Any = torch.onnx.export(
                program,
                input_names=INPUTS,
                output_names=OUTPUTS,
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table=table,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(_message(error)) from error
    model = _plain(made.model)
    model.metadata_props.update(about)
    onnx.save(made.model_proto, str(path))


def _plain(model: Any) -> Any:
    """Removes the paths of Python files and the names of sizes that the exporter records."""
    from onnx_ir import Shape

    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape = None
    for value in model.graph.inputs:
        value.metadata_props.clear()
        value.shape = Shape(SHAPES[value.name])
    for value in model.graph.outputs:
        value.shape = Shape(["batch", *value.shape.dims[1:]])
    model.metadata_props.clear()
    return model


def _message(error: Exception) -> str:
    """Gives the error message, with the operator's name if the exporter reports it."""
    chain: BaseException | None = error
    text = ""
    while chain is not None:
        text += f" {chain}"
        chain = chain.__cause__
    found = re.search(r"OpOverload\(op='([\w.]+)'", text) or re.search(r"[a-z_]+::[\w.]+", text)
    if found:
        name = found.group(found.lastindex or 0)
        return f"--format onnx: ONNX has no operator for {name}; use --format torch or aoti"
    first = " ".join(str(error).split())[:300]
    return f"--format onnx: the model cannot be written ({first}); use --format torch or aoti"


class OnnxRunner:
    """Runs an ONNX file by onnxruntime on the CPU.

    Raises:
        UserError: onnxruntime lacks an operator of the file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        providers = ["CPUExecutionProvider"]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime has many exceptions without a common base
            raise UserError(
                f"--format onnx: onnxruntime {onnxruntime.__version__} cannot run the model "
                f"({' '.join(str(error).split())[:200]}); update it (1.25 or later has deformable "
                "convolutions), or use --format torch or aoti"
            ) from error

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        given = {name: x.cpu().numpy() for name, x in zip(INPUTS, inputs, strict=True)}
        return [torch.from_numpy(x) for x in self.session.run(list(OUTPUTS), given)]
