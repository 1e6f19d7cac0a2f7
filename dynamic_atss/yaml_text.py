"""Loads YAML texts as plain values, within limits.

Aliases (`*name`) of lists that hold aliases can make a short text stand for an endless one. So the
text is scanned once, without building values, before it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from dynamic_atss.quoting import LONGEST
from dynamic_atss.reading import NUMBER_KEY, YAML_DEPTH, YAML_DIRECTIVES, YAML_NODES, YAML_TEXT

# libyaml's loaders, if PyYAML has them, are ten times as fast. The same parser scans and loads. Two
# parsers could read a text differently.
_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXTS = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_OPENS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_CLOSES = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def load_yaml(text: str, *, as_texts: bool = False) -> Any:
    """Loads a YAML text, without running code.

    Args:
        as_texts: keep all values as texts, also "no" and 1e3.

    Raises:
        ValueError: the text is not YAML, exceeds a limit of `reading`, or contains itself. The
            message is one line.
    """
    try:
        _check(text)
        return _loaded(text, _TEXTS if as_texts else _SAFE)
    except yaml.YAMLError as error:
        raise ValueError(f"{' '.join(str(error).split()):.{LONGEST}}") from None
    except ValueError:
        raise
    except Exception as error:  # constructors raise many types: !!int of a text, !!timestamp of 0
        raise ValueError(f"a value does not match its tag ({error!r:.{LONGEST}})") from None


def _loaded(text: str, kind: Any) -> Any:
    """Loads a text as yaml.load does, but checks the keys before it makes a dictionary."""
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
    """Raises ValueError if a large number is a key: such keys can all have the same hash."""
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    is_mapping = isinstance(node, yaml.MappingNode)
    for key in (key for key, _ in node.value) if is_mapping else ():
        if key.tag in _NUMBERS and len(key.value) > NUMBER_KEY:
            raise ValueError(
                f"has the number {key.value:.{LONGEST}} as a key; at most {NUMBER_KEY} characters"
            )
    for child in (child for pair in node.value for child in pair) if is_mapping else node.value:
        _check_keys(child, seen)


def _check(text: str) -> None:
    """Raises ValueError if the text exceeds a limit or contains itself."""
    if sum(line.startswith("%") for line in text.splitlines()) > YAML_DIRECTIVES:
        raise ValueError(f"has more than {YAML_DIRECTIVES} directives (lines that begin with %)")
    sizes: dict[str, int] = {}  # nodes that each alias stands for
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count at its start
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
    """Gives the number of nodes that an event adds."""
    if isinstance(event, yaml.AliasEvent):
        if event.anchor in open_names:
            raise ValueError(f"*{event.anchor} contains itself")
        return sizes.get(event.anchor, 1)  # the loader reports an unknown alias
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > YAML_TEXT:
        raise ValueError(f"has a value of {len(event.value):,} characters; at most {YAML_TEXT:,}")
    return 1
