"""A pickle machine that runs nothing.

Python's own machine imports the classes and functions that a file names, and calls them. This one
looks each name up in a table (`weights/known.py`). What the table does not have becomes a
`Skipped`, which takes in everything that the file does with it and keeps its name only.
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

# How many entries builders may copy: old protocols have bytes as texts, whose copies count, too.
_PER_BYTE, _SLACK = 4, 1000
_LONGEST_NAME = 80  # characters; a name from a file goes into messages
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_MAKERS = ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")
# What no object of a trainer is made by. Nothing is called in any case; a file that asks for these
# is refused as a whole, so that its owner hears of it.
_ACTING = set(
    """os posix nt sys subprocess shutil socket ctypes importlib runpy pty webbrowser pickle _pickle
    marshal multiprocessing""".split()
)
_WITH_FUNCTIONS = ("builtins", "numpy", "torch")  # imported here: functions can be told


class RefusedError(Exception):
    """The file asks for a call that could act on the machine; it names it."""


@dataclass(frozen=True, eq=False)
class Skipped:
    """In place of an object that only its own code could make. name: its class or function."""

    name: str


@dataclass(frozen=True, eq=False)
class Known:
    """A class or function of the table: `build` makes its plain value from the arguments."""

    name: str
    build: Callable[..., Any]


class Machine(pickle._Unpickler):  # Python's own in Python: its steps can be replaced
    """Loads one pickle. Values: containers, numbers, texts, what `known` builds, and `Skipped`.

    known: (module, name) -> a `Known`, or a value that stands for the name itself · size: bytes of
    the file; they limit what builders copy, so that a small file that refers to one long list many
    times does not fill the memory · storage: persistent id -> its value
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
        """The table's entry; imports nothing."""
        module = _PYTHON_2.get(module, module)
        found = self.known.get((module, name))
        return Skipped(_shown(f"{module}.{name}")) if found is None else found

    def persistent_load(self, pid: Any) -> Any:
        return Skipped("a persistent id") if self.storage is None else self.storage(pid)

    def charge(self, values: tuple[Any, ...]) -> None:
        """Counts what is about to be copied. Raises DamagedError if the file cannot hold it."""
        # A tensor of no dimension has a __len__ that fails.
        sized = (v for v in values if hasattr(v, "__len__") and getattr(v, "shape", None) != ())
        self.left -= sum(map(len, sized))
        if self.left < 0:
            raise DamagedError("copies more than the file holds")

    def call(self, function: Any, arguments: Any) -> Any:
        """What REDUCE, NEWOBJ, OBJ and INST ask for."""
        if isinstance(function, Known):
            self.charge(arguments)
            for items in arguments:
                self._count_keys(items)
            return function.build(*arguments)
        if not isinstance(function, Skipped):
            raise DamagedError(f"calls a {type(function).__name__}")
        first = arguments[0] if arguments else None
        if _acts(function.name, first):
            raise RefusedError(function.name)
        made = function.name in _MAKERS and isinstance(first, Skipped)
        return Skipped(first.name if made and isinstance(first, Skipped) else function.name)

    def _count_keys(self, items: Any) -> None:
        """Those that a builder may make of an argument: its entries, or the first of each pair."""
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
        self.stack.pop()  # arguments by keyword: no builder has any
        self.load_newobj()

    def _instantiate(self, function: Any, arguments: list[Any]) -> None:
        self.append(self.call(function, tuple(arguments)))

    def get_extension(self, code: int) -> None:
        self.append(Skipped(f"copyreg extension {code}"))

    def load_build(self) -> None:
        """State goes to the stand-ins of `known`; attributes of anything else are left out."""
        state, target = self.stack.pop(), self.stack[-1]
        take = getattr(type(target), "take_state", None)
        if take is not None:
            self.charge(tuple(state))
            take(target, state)

    def load_bytearray8(self) -> None:
        """Python's own provides the memory before it reads."""
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
        """items: key, value, key, value, ..."""
        keys = self._keys(items[::2])
        self._fill(dict, _put, list(zip(keys, items[1::2], strict=True)))

    def _keys(self, keys: list[Any]) -> list[Any]:
        self.keys.use(keys)
        return keys

    def _fill(self, kind: type, add: Callable[[Any, Any], Any], items: list[Any]) -> None:
        """Entries go into plain containers; those of a subclass are skipped with the rest of it."""
        target = self.stack[-1]
        if isinstance(target, kind):
            add(target, items)
        elif not isinstance(target, Skipped):
            raise DamagedError(f"entries for a {type(target).__name__}")

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
    """Not dict.update, which leaves an OrderedDict without its order and adds up a Counter."""
    for key, value in items:
        target[key] = value


def _acts(name: str, first: Any) -> bool:
    """Whether a call of `name` could act on the machine; by name alone, nothing is imported.

    getattr of a class that is skipped is how methods are pickled, and iter how iterators are.
    """
    module, _, function = name.rpartition(".")
    package = name.split(".")[0]
    if package in _ACTING:
        return True
    if package not in _WITH_FUNCTIONS or module not in sys.modules or function.startswith("_"):
        return False  # helpers of pickling begin with an underscore
    if name == "builtins.iter" or (name == "builtins.getattr" and isinstance(first, Skipped)):
        return False
    return inspect.isroutine(vars(sys.modules[module]).get(function))


def _shown(name: str) -> str:
    """A name from a file as a message may have it: printable, of a length that can be read."""
    plain = printable(name)
    return plain if len(plain) <= _LONGEST_NAME else plain[:_LONGEST_NAME] + "..."
