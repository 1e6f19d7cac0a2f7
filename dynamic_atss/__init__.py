"""Trains dense object detectors whose label assignment is a small, swappable rule.

Names that need torch are imported only when they are used.

>>> import dynamic_atss
>>> dynamic_atss.__all__
['Assignment', 'Found', 'GroundTruth', 'Model', 'PerImage', 'Predictions', 'Priors', 'UserError', \
'load']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dynamic_atss.version import __version__ as __version__

if TYPE_CHECKING:
    from dynamic_atss.assigners.per_image import PerImage
    from dynamic_atss.errors import UserError
    from dynamic_atss.inference.found import Found
    from dynamic_atss.inference.model import Model, load
    from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

__all__ = [
    "Assignment",
    "Found",
    "GroundTruth",
    "Model",
    "PerImage",
    "Predictions",
    "Priors",
    "UserError",
    "load",
]
_MODULES = {  # the module of each name that is not in `types`
    "Found": "inference.found",
    "Model": "inference.model",
    "PerImage": "assigners.per_image",
    "UserError": "errors",
    "load": "inference.model",
}


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__` from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
