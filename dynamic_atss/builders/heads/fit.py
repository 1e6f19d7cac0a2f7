"""What a head has to give: checked where it is asked, so that a mistake is one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from torch import nn

from dynamic_atss.errors import UserError, described, user_place
from dynamic_atss.system_limits import limit_reached


class Wanted(NamedTuple):
    """fits: whether a result will do · words: what is needed, for the message"""

    fits: Callable[[Any], bool]
    words: str


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda found: all(callable(getattr(found, name, None)) for name in names)


def _takes(*given: None, **named: None) -> Callable[[Any], bool]:
    def fits(found: Any) -> bool:
        # nn.Module.__call__ takes anything and hands it to forward.
        call = found.forward if isinstance(found, nn.Module) else found
        return callable(call) and not _mismatch(call, *given, **named)

    return fits


def _is_priors(found: Any) -> bool:
    return hasattr(found, "sized") and _takes(None, None)(found)


# By method of `Head`.
WANTED = {
    "priors": Wanted(
        _is_priors,
        "an AnchorGenerator or PointGenerator, or what is called with (sizes, device) and says in "
        "`sized` whether its priors have a size",
    ),
    "network": Wanted(
        lambda found: isinstance(found, nn.Module),
        "a torch.nn.Module whose forward takes the feature maps and gives a HeadOutput",
    ),
    "coder": Wanted(
        _has("encode", "decode"),
        "an object with encode(gt_boxes, priors) and decode(deltas, priors)",
    ),
    "criterion": Wanted(
        _takes(None, None, None, None),
        "what is called with (output, priors, gt, iteration) and gives Terms, or losses by name",
    ),
    "postprocess": Wanted(
        _takes(None, None, None, None, nms=None),
        "what is called with (output, priors, sizes, original_sizes, nms=...) and gives Detections",
    ),
    "default_rule": Wanted(lambda found: isinstance(found, str), "the name of a rule"),
}


def ask(head: Any, part: str, *given: Any) -> Any:
    """head.<part>(*given), checked.

    Args:
        part: a key of WANTED.

    Raises:
        UserError: a method of the user's takes other arguments, fails, or gives something else.
    """
    method, wanted = getattr(head, part), WANTED[part]
    place = f"{named(head)}: its {part}"
    if wrong := _mismatch(method, *given):
        parameters = ", ".join(inspect.signature(getattr(_base(head), part)).parameters)
        raise UserError(f"{place} cannot be called so ({wrong}); it needs ({parameters})")
    try:
        found = method(*given)
    except UserError:
        raise
    except Exception as error:  # a method of the user's may raise any
        if limit_reached(error) or not user_place(error):
            raise
        raise UserError(f"{place} fails ({described(error)})") from error
    if not wanted.fits(found):
        raise UserError(f"{place} gives {_shown(found)}; needed is {wanted.words}")
    return found


def check_section(name: str, section: Any, known: Collection[str]) -> None:
    """Raises UserError unless a head's `section` is one of `known`."""
    if section not in known:
        raise UserError(
            f"MODEL.HEAD.NAME {name!r}: its section is {section!r}, which MODEL has not for a "
            f"head; choose one of {', '.join(known)}"
        )


def check_made(head: Any) -> None:
    """Raises UserError for a head whose `__init__` left out that of `Head`."""
    missing = [x for x in ("own", "model", "detections_per_image") if not hasattr(head, x)]
    if missing:
        raise UserError(
            f"{named(head)}: has no {', '.join(missing)}; call super().__init__(cfg) in its "
            "__init__"
        )


def named(head: Any) -> str:
    """The head, for a message."""
    return f"head {type(head).__name__} (MODEL.HEAD.NAME)"


def _mismatch(call: Any, *given: Any, **named: Any) -> str:
    """Why it cannot be called so; "" if it can, or does not tell."""
    try:
        inspect.signature(call).bind(*given, **named)
    except TypeError as error:
        return str(error)
    except ValueError:  # in C, and does not tell
        return ""
    return ""


def _base(head: Any) -> type:
    """`Head` itself, the last but object and ABC of those it inherits from."""
    return next(x for x in reversed(type(head).__mro__) if hasattr(x, "default_rule"))


def _shown(found: Any) -> str:
    """A name as it is, of all else the type."""
    return repr(found) if found is None or isinstance(found, str) else type(found).__name__
