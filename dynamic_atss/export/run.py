"""Exports a run or a file of weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.errors import UserError
from dynamic_atss.export.about import about
from dynamic_atss.export.checking import check
from dynamic_atss.export.formats import AOTI, ONNX, TORCH, check_packages
from dynamic_atss.export.module import Suppress, TensorDetector
from dynamic_atss.export.onnx_file import OnnxRunner, write_onnx
from dynamic_atss.export.pictures import pictures
from dynamic_atss.export.torch_file import aoti_runner, torch_runner, write_aoti, write_torch
from dynamic_atss.export.torch_nms import greedy_nms
from dynamic_atss.export.tracing import traced
from dynamic_atss.files import check_place, write_atomically
from dynamic_atss.inference.restore import Restored, restore
from dynamic_atss.ops.nms import batched_multiclass_nms


class Format(NamedTuple):
    """Describes a format of exported files.

    Attributes:
        suppress: the NMS function to trace.
        write: writes (program, path, about).
        open: gives a function that runs a file.
    """

    suppress: Suppress
    write: Callable[..., None]
    open: Callable[[Path], Any]


FORMATS = {
    ONNX: Format(batched_multiclass_nms, write_onnx, OnnxRunner),
    TORCH: Format(greedy_nms, write_torch, torch_runner),
    AOTI: Format(greedy_nms, write_aoti, aoti_runner),
}


def export(
    weights: str,
    output: str | Path,
    name: str,
    *,
    check_images: str = "",
    loading: Mapping[str, Any] | None = None,
) -> str:
    """Writes `output` after checking that it agrees with PyTorch. Gives a line about the check.

    Args:
        name: the format, a key of FORMATS.
        check_images: a folder or a picture, see `pictures`.
        loading: further arguments of `restore`.

    Raises:
        UserError: an argument is wrong, or the check failed. Writes nothing then.
    """
    check_packages(name)
    output = Path(output).expanduser()
    check_place(output)
    restored = _restored(weights, **(loading or {}))
    images, source = pictures(restored, check_images)
    chosen = FORMATS[name]
    model = TensorDetector(restored.detector, chosen.suppress).eval()
    with tempfile.TemporaryDirectory(prefix="dynamic_atss_export_") as folder:
        made = Path(folder) / "model.pt2"  # an extension that all formats accept
        chosen.write(traced(model, restored.device), made, about(restored, model.process))
        found = check(chosen.open(made), restored, images)
        with made.open("rb") as content:
            write_atomically(output, lambda file: shutil.copyfileobj(content, file))
    return (
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(restored.class_names)} classes; "
        f"agrees with PyTorch on {len(images)} pictures of {source}: {found.count} boxes differ "
        f"by at most {found.box:.2g} pixels, and their scores by {found.score:.1g}"
    )


def _restored(weights: str, overrides: Sequence[str] = (), **loading: Any) -> Restored:
    """Loads the detector. Raises UserError if the test uses augmentation."""
    # With channels_last, the trace would not accept maps of 1 x 1, which are also contiguous.
    restored = restore(weights, overrides=[*overrides, "MODEL.CHANNELS_LAST", "False"], **loading)
    if restored.cfg.TEST.BBOX_AUG.ENABLED:
        raise UserError(
            "TEST.BBOX_AUG.ENABLED True: test-time augmentation cannot be exported; add --set "
            "TEST.BBOX_AUG.ENABLED False"
        )
    return restored
