"""The entries of a timm model, whole and as a body of ours: what `--body timm/<name>` tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Size

from dynamic_atss.errors import UserError
from dynamic_atss.weights.backbone_names import TIMM_BODY, to_timm
from dynamic_atss.weights.epsilon import COUNTER
from dynamic_atss.weights.formats import Source

_PREFIX = "timm/"


@dataclass(frozen=True)
class TimmNames:
    """body, as the user gives it · ours, the shapes of the body's entries by our names · plain,
    the names of the whole model, as timm.create_model makes it"""

    body: str
    ours: dict[str, Size]
    plain: frozenset[str]

    def renamer(self) -> Callable[[str], str | None]:
        """A function: our name -> timm's plain one, or None."""
        return to_timm(self.ours, self.plain)


def timm_names(body: str) -> TimmNames:
    """The names of `body`, "timm/<name>"; builds the model, downloads nothing.

    Raises UserError if timm is missing, or has no such model that can be a body.
    """
    if not body.startswith(_PREFIX):
        raise UserError(
            f"--body {body}: timm/<name> is needed (other bodies' files need no --body)"
        )
    from dynamic_atss.modeling.backbones.timm_body import TimmBody

    name = body.removeprefix(_PREFIX)
    try:
        state = TimmBody(name).state_dict(prefix=TIMM_BODY.removesuffix("net."))
    except ValueError as error:
        raise UserError(f"--body {body}: {error}") from error
    import timm

    plain = timm.create_model(name, pretrained=False).state_dict()
    return TimmNames(body, {entry: value.shape for entry, value in state.items()}, frozenset(plain))


def check_timm(source: Source, names: TimmNames, path: object) -> None:
    """Raises UserError unless the body in `source` is `names.body`, entry by entry.

    What the whole model has and the body lacks (its last layers) becomes `source.ignored`.
    """
    theirs = [name for name in source.tensors if name.startswith(TIMM_BODY)]
    if not theirs:
        raise UserError(f"{path}: {source.format} with no entry of a body {names.body}")
    for name in theirs:
        entry, shape = source.origin[name], source.tensors[name].shape
        if name in names.ours:
            if shape != names.ours[name]:
                sizes = f"{tuple(shape)}, {names.body} has {tuple(names.ours[name])}"
                raise UserError(f"{path}: {entry} is {sizes}; give its own --body")
        elif name.removeprefix(TIMM_BODY) in names.plain:
            source.ignored[entry] = source.tensors.pop(name)
            del source.origin[name]
        else:
            raise UserError(f"{path}: {entry} is no entry of {names.body}; give its own --body")
    for name in names.ours:
        if name not in source.tensors and not name.endswith((COUNTER, ".relative_position_index")):
            entry = names.renamer()(name) or name
            raise UserError(f"{path}: lacks {entry} of {names.body}; give its own --body")
