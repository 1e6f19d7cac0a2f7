"""Lists the formats of `export` and the packages that they need."""

from __future__ import annotations

from importlib.util import find_spec

from dynamic_atss.errors import UserError

ONNX, TORCH, AOTI = "onnx", "torch", "aoti"
PACKAGES = {ONNX: ("onnx", "onnxscript", "onnxruntime"), TORCH: (), AOTI: ()}


def check_packages(name: str) -> None:
    """Raises UserError if the format needs a package that is not installed."""
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format {name} needs {' and '.join(missing)}: pip install 'dynamic_atss[export]', "
            f"or pip install {' '.join(missing)}"
        )
