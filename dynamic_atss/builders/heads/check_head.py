"""Checks what the methods of a head return, so that a mistake in a custom head is one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from torch import nn

from dynamic_atss.errors import UserError, described, user_place
from dynamic_atss.system_limits import limit_reached


class Expected(NamedTuple):
    """Describes the result that a method of a head must return.

    Attributes:
        accepts: tests a result.
        description: describes a right result, for the message.
    """

    accepts: Callable[[Any], bool]
    description: str


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda result: all(callable(getattr(result, name, None)) for name in names)


def _takes(*given: None, **keywords: None) -> Callable[[Any], bool]:
    def accepts(result: Any) -> bool:
        # nn.Module.__call__ accepts anything and passes it to forward.
        call = result.forward if isinstance(result, nn.Module) else result
        return callable(call) and not _mismatch(call, *given, **keywords)

    return accepts


def _is_priors(result: Any) -> bool:
    return hasattr(result, "sized") and _takes(None, None)(result)


# Method of `Head` -> the expected result.
EXPECTED = {
    "priors": Expected(
        _is_priors,
        "an AnchorGenerator or PointGenerator, or a callable that takes (sizes, device) and says "
        "in `sized` whether its priors have a size",
    ),
    "network": Expected(
        lambda result: isinstance(result, nn.Module),
        "a torch.nn.Module whose forward takes the feature maps and returns a HeadOutput",
    ),
    "coder": Expected(
        _has("encode", "decode"),
        "an object with encode(gt_boxes, priors) and decode(deltas, priors)",
    ),
    "criterion": Expected(
        _takes(None, None, None, None),
        "a callable that takes (output, priors, gt, iteration) and returns Terms, or losses by "
        "name",
    ),
    "postprocess": Expected(
        _takes(None, None, None, None, nms=None),
        "a callable that takes (output, priors, sizes, original_sizes, nms=...) and returns "
        "Detections",
    ),
    "default_rule": Expected(lambda result: isinstance(result, str), "the name of a rule"),
}


def call_checked(head: Any, part: str, *given: Any) -> Any:
    """Calls head.<part>(*given) and checks the result.

    Args:
        part: a key of EXPECTED.

    Raises:
        UserError: the user's method takes other arguments, fails, or returns a wrong object.
    """
    method, expected = getattr(head, part), EXPECTED[part]
    place = f"{head_label(head)}: its {part}"
    if wrong := _mismatch(method, *given):
        parameters = ", ".join(inspect.signature(getattr(_base(head), part)).parameters)
        raise UserError(f"{place} takes other arguments ({wrong}); it needs ({parameters})")
    try:
        result = method(*given)
    except UserError:
        raise
    except Exception as error:  # the user's code may raise anything
        if limit_reached(error) or not user_place(error):
            raise
        raise UserError(f"{place} fails ({described(error)})") from error
    if not expected.accepts(result):
        raise UserError(f"{place} gives {_shown(result)}; needed is {expected.description}")
    return result


def check_section(name: str, section: Any, known: Collection[str]) -> None:
    """Raises UserError unless a head's `section` is one of `known`."""
    if section not in known:
        raise UserError(
            f"MODEL.HEAD.NAME {name!r}: its section is {section!r}, which is no head's section of "
            f"MODEL; choose one of {', '.join(known)}"
        )


def check_initialized(head: Any) -> None:
    """Raises UserError if `__init__` of the head did not call that of `Head`."""
    missing = [x for x in ("settings", "model", "detections_per_image") if not hasattr(head, x)]
    if missing:
        raise UserError(
            f"{head_label(head)}: has no {', '.join(missing)}; call super().__init__(cfg) in its "
            "__init__"
        )


def head_label(head: Any) -> str:
    """Names the head in messages."""
    return f"head {type(head).__name__} (MODEL.HEAD.NAME)"


def _mismatch(call: Any, *given: Any, **keywords: Any) -> str:
    """Says why these arguments cannot be passed; "" if they can, or if there is no signature."""
    try:
        inspect.signature(call).bind(*given, **keywords)
    except TypeError as error:
        return str(error)
    except ValueError:  # written in C, without a signature
        return ""
    return ""


def _base(head: Any) -> type:
    """Finds `Head` among the base classes. Importing it here would be circular."""
    return next(x for x in reversed(type(head).__mro__) if hasattr(x, "default_rule"))


def _shown(found: Any) -> str:
    """Shows None or a text as it is, and the type of anything else."""
    return repr(found) if found is None or isinstance(found, str) else type(found).__name__
