"""Uses any backbone of timm (Wightman, github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from dynamic_atss.modeling.backbones.frozen import FrozenParts, check_freeze_at, pad_to
from dynamic_atss.suggest import nearest

STRIDES = (8, 16, 32)
# With either option, if a model has it, the model takes images of any size.
ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


class TimmBody(FrozenParts):
    """Computes the maps of strides 8, 16 and 32 of the timm model `name`.

    `net.*` has the names of timm's `features_only` models. Weights are never downloaded.
    `out_channels` lists the channels of the maps.

    Args:
        norm: "" and "BN" keep the model's norms. "FrozenBN" and "SyncBN" replace its batch norms.
        freeze_at: number of parts that do not learn. 1: the stem, 2: also the stage of stride 4,
            ... 5: all.

    Raises:
        ValueError: timm is missing, has no model `name`, or the model cannot be used.
    """

    def __init__(self, name: str, *, norm: str = "", freeze_at: int = 0) -> None:
        super().__init__()
        check_freeze_at(freeze_at, 5, "the stem and four stages")
        timm = _timm()
        probe = _probe(timm, name)
        indices = _indices(name, probe)
        options = _any_size(name, probe)
        self.net = _create(timm, name, features_only=True, out_indices=indices, **options)
        self.out_channels = list(self.net.feature_info.channels())
        self.channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self.net = _converter(norm)(self.net)
        if freeze_at:
            self.freeze(_first_parts(name, self.net, _info(probe), freeze_at))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives the maps of x (N, 3, H, W). The first is (N, C, H'/8, W'/8).

        H' and W' are H and W rounded up to 32, with zeros. So strides are exact, except in
        architectures that convolve without padding, such as inception.
        """
        maps = self.net(pad_to(x, STRIDES[-1]))
        return [y.permute(0, 3, 1, 2) for y in maps] if self.channels_last else list(maps)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm is not installed: pip install timm") from error
    return timm


def _probe(timm: ModuleType, name: str) -> nn.Module:
    """Creates the full model, to read its properties."""
    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = nearest(name, known)
        hint = f"nearest: timm/{near}" if near else "timm.list_models() lists them"
        raise ValueError(f"timm has no model {name!r}; {hint}")
    return _create(timm, name)


def _create(timm: ModuleType, name: str, **options: Any) -> Any:
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (AssertionError, RuntimeError) as error:  # the tag is unknown, or there are no maps
        raise ValueError(f"timm/{name}: {error}") from error


def _info(probe: nn.Module) -> list[dict[str, Any]]:
    """Gives timm's description of a model's maps.

    The entry `reduction` is the stride of a map, and `module` is its module.
    """
    info: Any = getattr(probe, "feature_info", None) or []
    return list(getattr(info, "info", info))


def _indices(name: str, probe: nn.Module) -> list[int]:
    """Gives the indices of the deepest map of each stride."""
    strides = [entry["reduction"] for entry in _info(probe)]
    if not set(STRIDES) <= set(strides):
        have = ", ".join(map(str, dict.fromkeys(strides))) or "unknown to timm"
        raise ValueError(f"timm/{name}: needs maps of strides 8, 16, 32, but has {have}")
    return [max(i for i, s in enumerate(strides) if s == stride) for stride in STRIDES]


def _any_size(name: str, probe: nn.Module) -> dict[str, bool]:
    """Gives the options with which the model takes images of any size."""
    parameters = inspect.signature(type(probe).__init__).parameters
    options = {key: value for key, value in ANY_SIZE.items() if key in parameters}
    described: Any = getattr(probe, "pretrained_cfg", {})
    if described.get("fixed_input_size") and not options:
        size = "x".join(map(str, described.get("input_size", ())[1:]))
        raise ValueError(
            f"timm/{name}: takes only images of {size} pixels, but detection needs other sizes"
        )
    return options


def _converter(norm: str) -> Callable[[nn.Module], nn.Module]:
    from timm.layers import convert_sync_batchnorm
    from timm.utils.model import freeze_batch_norm_2d

    converters = {"FrozenBN": freeze_batch_norm_2d, "SyncBN": convert_sync_batchnorm}
    if norm not in ("", "BN", *converters):
        raise ValueError(f'norm {norm!r}: give "" for the model\'s norms, FrozenBN, BN or SyncBN')
    return converters.get(norm, lambda net: net)


def _parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Gives a model's parts in the order in which they run. Splits sequences into steps.

    timm's `features_only` models run in the order of their children. They may call `stages.0`
    `stages_0`.
    """
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential):
            yield from ((f"{name}_{step}", module) for step, module in child.named_children())
        else:
            yield name, child


def _first_parts(
    name: str, net: nn.Module, info: Sequence[dict[str, Any]], freeze_at: int
) -> list[nn.Module]:
    """Gives the parts up to the map of stride 2 ** freeze_at. The stem ends before stride 4."""
    parts = list(_parts(net))
    modules = {entry["reduction"]: entry["module"].replace(".", "_") for entry in info}
    stem = freeze_at == 1 and 2 not in modules
    target = modules.get(4 if stem else 2**freeze_at)
    hits = [i for i, (part, _) in enumerate(parts) if f"{part}_".startswith(f"{target}_")]
    if not hits:
        raise ValueError(
            f"timm/{name}: its first parts cannot be found; set "
            "MODEL.BACKBONE.FREEZE_CONV_BODY_AT 0"
        )
    return [module for _, module in parts[: hits[0] if stem else hits[-1] + 1]]
