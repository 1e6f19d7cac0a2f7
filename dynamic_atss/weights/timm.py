"""Lists the names of a timm model's entries, in timm and in our body (`--body timm/<name>`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Size

from dynamic_atss.errors import UserError
from dynamic_atss.weights.backbone_names import TIMM_BODY, to_timm
from dynamic_atss.weights.epsilon import COUNTER
from dynamic_atss.weights.formats import Source

_PREFIX = "timm/"
_ANOTHER = "give the --body that the file belongs to"


@dataclass(frozen=True)
class TimmNames:
    """Holds the names of a timm model.

    Attributes:
        body: the body as the user gives it.
        ours: our names of the body's entries -> shapes.
        plain: the names of the complete model that timm.create_model builds.
    """

    body: str
    ours: dict[str, Size]
    plain: frozenset[str]

    def renamer(self) -> Callable[[str], str | None]:
        """Makes a function from our names to timm's plain names.

        The function returns None for an entry that the plain model lacks.
        """
        return to_timm(self.ours, self.plain)


def timm_names(body: str) -> TimmNames:
    """Returns the names of `body`, which is "timm/<name>". Builds the model, downloads nothing.

    Raises UserError if timm is not installed or has no such model that can be a body.
    """
    if not body.startswith(_PREFIX):
        raise UserError(
            f"--body {body}: timm/<name> is needed (leave --body out for files of other bodies)"
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
    """Compares the body in `source` with `names.body`. Raises UserError if an entry differs.

    Moves the last layers, which timm's model has and the body lacks, to `source.ignored`.
    """
    theirs = [name for name in source.tensors if name.startswith(TIMM_BODY)]
    if not theirs:
        raise UserError(
            f"{path}: {source.format} with no entry of a body {names.body}; leave --body out"
        )
    for name in theirs:
        entry, shape = source.origin[name], source.tensors[name].shape
        if name in names.ours:
            if shape != names.ours[name]:
                sizes = f"{tuple(shape)}, {names.body} has {tuple(names.ours[name])}"
                raise UserError(f"{path}: {entry} is {sizes}; {_ANOTHER}")
        elif name.removeprefix(TIMM_BODY) in names.plain:
            source.ignored[entry] = source.tensors.pop(name)
            del source.origin[name]
        else:
            raise UserError(f"{path}: {entry} is no entry of {names.body}; {_ANOTHER}")
    for name in names.ours:
        if name not in source.tensors and not name.endswith((COUNTER, ".relative_position_index")):
            entry = names.renamer()(name) or name
            raise UserError(f"{path}: lacks {entry} of {names.body}; {_ANOTHER}")
