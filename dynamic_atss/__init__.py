"""Training of dense object detectors in which label assignment is a small, swappable rule."""

from typing import TYPE_CHECKING, Any

from dynamic_atss.version import __version__ as __version__

if TYPE_CHECKING:
    from dynamic_atss.inference.model import load as load


def __getattr__(name: str) -> Any:
    """`load`, which imports torch, when it is asked for."""
    if name == "load":
        from dynamic_atss.inference.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
