"""Reads pickles without running anything that they name.

Python's pickle machine imports the classes and functions that a file names, and calls them. This
machine looks each name up in a table (`weights/object_builders.py`). A name that the table lacks
becomes a `Skipped`. It keeps only the name and ignores all that the file does with it.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from dynamic_atss.quoting import printable
from dynamic_atss.weights.bounds import DamagedError, Keys, Memo, Steps, Stream

# Limit of entries that builders copy. Old protocols store bytes as text, which is copied as well.
_PER_BYTE, _SLACK = 4, 1000
_LONGEST_NAME = 80  # characters of a name from a file in a message
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_MAKERS = ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")
# No object of a trainer is built by these modules. The machine calls nothing in any case, but it
# refuses a file that asks for these, so that the user learns of the attempt.
_UNSAFE_MODULES = set(
    """os posix nt sys subprocess shutil socket ctypes importlib runpy pty webbrowser pickle _pickle
    marshal multiprocessing""".split()
)
_WITH_FUNCTIONS = ("builtins", "numpy", "torch")  # these are imported, so names can be looked up


class RefusedError(Exception):
    """Says that a file asks for a call that could act on the machine.

    The message names the function.
    """


@dataclass(frozen=True, eq=False)
class Skipped:
    """Stands for an object that was not read. `name` is the name of its class or function."""

    name: str


@dataclass(frozen=True, eq=False)
class ObjectBuilder:
    """Stands for a class or function of the table.

    `build` makes a plain value from the arguments of a call.
    """

    name: str
    build: Callable[..., Any]


class Machine(pickle._Unpickler):  # the version in Python, whose steps can be replaced
    """Loads one pickle: containers, numbers, texts, values that `known` builds, and `Skipped`.

    Args:
        file: the open file.
        known: (module, name) -> an `ObjectBuilder`, or the value of that name.
        size: bytes of the file. It limits how much builders copy. Otherwise a small file could
            refer to one long list many times and fill the memory.
        storage: maps a persistent id to its value.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        file: BinaryIO,
        known: Mapping[tuple[str, str], Any],
        size: int,
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(Stream(file, size), encoding="latin1")
        self.dispatch = Steps(type(self).dispatch)  # type: ignore[misc]
        self.memo = Memo()
        self.keys = Keys()
        self.known = known
        self.left = _PER_BYTE * size + _SLACK
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns the table's entry, or a `Skipped` if there is none. Imports nothing."""
        module = _PYTHON_2.get(module, module)
        found = self.known.get((module, name))
        return Skipped(_shown(f"{module}.{name}")) if found is None else found

    def persistent_load(self, pid: Any) -> Any:
        return Skipped("a persistent id") if self.storage is None else self.storage(pid)

    def charge(self, values: tuple[Any, ...]) -> None:
        """Counts the entries to be copied. Raises DamagedError if they exceed the file's limit."""
        # len() of a tensor without dimensions raises.
        sized = (v for v in values if hasattr(v, "__len__") and getattr(v, "shape", None) != ())
        self.left -= sum(map(len, sized))
        if self.left < 0:
            raise DamagedError("it copies more than the file holds")

    def call(self, function: Any, arguments: Any) -> Any:
        """Builds the value of a call, for the operations REDUCE, NEWOBJ, OBJ and INST.

        Raises RefusedError for a call that could act on the machine.
        """
        if isinstance(function, ObjectBuilder):
            self.charge(arguments)
            for items in arguments:
                self._count_keys(items)
            return function.build(*arguments)
        if not isinstance(function, Skipped):
            raise DamagedError(f"it calls a {type(function).__name__}")
        first = arguments[0] if arguments else None
        if _is_unsafe(function.name, first):
            raise RefusedError(function.name)
        made = function.name in _MAKERS and isinstance(first, Skipped)
        return Skipped(first.name if made and isinstance(first, Skipped) else function.name)

    def _count_keys(self, items: Any) -> None:
        """Counts the keys that a builder may make: the entries, or the first of each pair."""
        if isinstance(items, dict | set | frozenset | list | tuple):
            self.keys.use(items)
        if isinstance(items, list | tuple):
            self.keys.use([item[0] for item in items if isinstance(item, list | tuple) and item])

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.append(self.call(self.stack.pop(), arguments))

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments: no builder takes any
        self.load_newobj()

    def _instantiate(self, function: Any, arguments: list[Any]) -> None:
        self.append(self.call(function, tuple(arguments)))

    def get_extension(self, code: int) -> None:
        self.append(Skipped(f"copyreg extension {code}"))

    def load_build(self) -> None:
        """Sets the state of a stand-in of `known`. Ignores the state of all other objects."""
        state, target = self.stack.pop(), self.stack[-1]
        take = getattr(type(target), "take_state", None)
        if take is not None:
            self.charge(tuple(state))
            take(target, state)

    def load_bytearray8(self) -> None:
        """Reads the bytes before it allocates.

        Python's version allocates the declared length first.
        """
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_tuple(self) -> None:
        self._push(tuple(self.pop_mark()))

    def load_tuple1(self) -> None:
        self._push((self.stack.pop(),))

    def load_tuple2(self) -> None:
        second = self.stack.pop()
        self._push((self.stack.pop(), second))

    def load_tuple3(self) -> None:
        third, second = self.stack.pop(), self.stack.pop()
        self._push((self.stack.pop(), second, third))

    def _push(self, value: tuple[Any, ...]) -> None:
        self.keys.add(value)
        self.append(value)

    def load_append(self) -> None:
        self._fill(list, list.extend, [self.stack.pop()])

    def load_appends(self) -> None:
        self._fill(list, list.extend, self.pop_mark())

    def load_additems(self) -> None:
        items = self._keys(self.pop_mark())
        self._fill(set, set.update, items)

    def load_frozenset(self) -> None:
        self.append(frozenset(self._keys(self.pop_mark())))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        """Adds items to a dictionary. The items are key, value, key, value, ..."""
        keys = self._keys(items[::2])
        self._fill(dict, _put, list(zip(keys, items[1::2], strict=True)))

    def _keys(self, keys: list[Any]) -> list[Any]:
        self.keys.use(keys)
        return keys

    def _fill(self, kind: type, add: Callable[[Any, Any], Any], items: list[Any]) -> None:
        """Adds items to a plain container. Ignores those of a skipped object."""
        target = self.stack[-1]
        if isinstance(target, kind):
            add(target, items)
        elif not isinstance(target, Skipped):
            raise DamagedError(f"it adds entries to a {type(target).__name__}")

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.TUPLE[0]] = load_tuple
    dispatch[pickle.TUPLE1[0]] = load_tuple1
    dispatch[pickle.TUPLE2[0]] = load_tuple2
    dispatch[pickle.TUPLE3[0]] = load_tuple3
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _put(target: Any, items: list[tuple[Any, Any]]) -> None:
    """Sets items one by one.

    dict.update would break the order of an OrderedDict and sum a Counter.
    """
    for key, value in items:
        target[key] = value


def _is_unsafe(name: str, first: Any) -> bool:
    """Returns True if a call of `name` could act on the machine. Imports nothing.

    Allows getattr of a skipped class, and iter. Pickled methods and iterators use them.
    """
    module, _, function = name.rpartition(".")
    package = name.split(".")[0]
    if package in _UNSAFE_MODULES:
        return True
    if package not in _WITH_FUNCTIONS or module not in sys.modules or function.startswith("_"):
        return False  # helpers of pickling begin with an underscore
    if name == "builtins.iter" or (name == "builtins.getattr" and isinstance(first, Skipped)):
        return False
    return inspect.isroutine(vars(sys.modules[module]).get(function))


def _shown(name: str) -> str:
    """Makes a name from a file printable and short enough for a message."""
    text = printable(name)
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "..."
