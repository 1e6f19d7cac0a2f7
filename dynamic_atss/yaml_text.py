"""YAML texts -> plain values, within limits.

A short text can stand for an endless one: by aliases (`*name`) of lists that hold aliases. So the
text is walked once, without building anything, before it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from dynamic_atss.quoting import LONGEST
from dynamic_atss.reading import NUMBER_KEY, YAML_DEPTH, YAML_DIRECTIVES, YAML_NODES, YAML_TEXT

# libyaml's, ten times as fast, where PyYAML has it. One parser walks and loads: two could
# understand a text differently.
_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXTS = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_OPENS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_CLOSES = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def load_yaml(text: str, *, as_texts: bool = False) -> Any:
    """The content of a YAML text; runs nothing.

    as_texts: values stay texts, "no" and 1e3 as well
    Raises ValueError, in one line: not YAML, beyond a limit of `reading`, or holding itself.
    """
    try:
        _check(text)
        return _loaded(text, _TEXTS if as_texts else _SAFE)
    except yaml.YAMLError as error:
        raise ValueError(f"{' '.join(str(error).split()):.{LONGEST}}") from None
    except ValueError:
        raise
    except Exception as error:  # !!int with a text, !!timestamp of the year 0: each fails as it can
        raise ValueError(f"a value is not what its tag says ({error!r:.{LONGEST}})") from None


def _loaded(text: str, kind: Any) -> Any:
    """As yaml.load does; the keys are looked at before a dictionary is made of them."""
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_keys(root, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_keys(node: Any, seen: set[int]) -> None:
    """Raises ValueError: a large number is a key. Their hashes can be chosen to be all the same."""
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    pairs = isinstance(node, yaml.MappingNode)
    for key in (key for key, _ in node.value) if pairs else ():
        if key.tag in _NUMBERS and len(key.value) > NUMBER_KEY:
            raise ValueError(
                f"has the number {key.value:.{LONGEST}} as a key; at most {NUMBER_KEY} characters"
            )
    for child in (child for pair in node.value for child in pair) if pairs else node.value:
        _check_keys(child, seen)


def _check(text: str) -> None:
    """Raises ValueError: beyond a limit, or holding itself."""
    if sum(line.startswith("%") for line in text.splitlines()) > YAML_DIRECTIVES:
        raise ValueError(f"has more than {YAML_DIRECTIVES} directives (lines that begin with %)")
    sizes: dict[str, int] = {}  # of what an alias can stand for, in nodes
    open_nodes: list[tuple[str | None, int]] = []  # name, and the count at its start
    count = 0
    for event in _events(text):
        if isinstance(event, _CLOSES):
            name, before = open_nodes.pop()
            _remember(sizes, name, count - before)
            continue
        count += _size(event, sizes, [name for name, _ in open_nodes])
        if count > YAML_NODES:
            raise ValueError(f"has more than {YAML_NODES:,} entries, aliases counted at each use")
        if isinstance(event, _OPENS):
            open_nodes.append((event.anchor, count - 1))
        elif isinstance(event, yaml.ScalarEvent):
            _remember(sizes, event.anchor, 1)
        if len(open_nodes) > YAML_DEPTH:
            raise ValueError(f"is nested more than {YAML_DEPTH} deep")


def _events(text: str) -> Iterator[Any]:
    nodes = (*_OPENS, *_CLOSES, yaml.ScalarEvent, yaml.AliasEvent)
    return (event for event in yaml.parse(text, Loader=_SAFE) if isinstance(event, nodes))


def _remember(sizes: dict[str, int], name: str | None, size: int) -> None:
    if name is not None:
        sizes[name] = size


def _size(event: Any, sizes: dict[str, int], open_names: list[str | None]) -> int:
    """How many nodes an event adds."""
    if isinstance(event, yaml.AliasEvent):
        if event.anchor in open_names:
            raise ValueError(f"*{event.anchor} stands within what it stands for")
        return sizes.get(event.anchor, 1)  # unknown: the loader has a name for that fault
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > YAML_TEXT:
        raise ValueError(f"has a value of {len(event.value):,} characters; at most {YAML_TEXT:,}")
    return 1
