"""Lists the classes and functions that weights consist of, with a builder for each.

These are plain containers, numpy's arrays, PyTorch's tensors and storages. Arrays are rebuilt from
their bytes, because numpy's state setters trust the file: a forged dtype makes them read invalid
memory.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.reading import TENSOR_BYTES
from dynamic_atss.weights.bounds import DamagedError, check_extent
from dynamic_atss.weights.safe_pickle import ObjectBuilder, RefusedError, Skipped


class Dtype:
    """Stands for numpy.dtype.

    `code` is None for types other than numbers (objects, texts, fields).
    """

    def __init__(self, code: Any, *_: Any) -> None:
        number = isinstance(code, str) and re.fullmatch(r"[<>|=]?(?:[fiub][1248]|\?)", code)
        self.code = code if number else None
        self.name = code

    def take_state(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">") and self.code:
            self.code = state[1] + self.code.lstrip("<>|=")


class Array:
    """Stands for numpy.ndarray until its bytes are known."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def take_state(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def finished(self) -> np.ndarray | Skipped:
        """Builds the array. Returns `Skipped` if it does not hold numbers."""
        _, shape, dtype, fortran, data = self.state
        if dtype.code is None:
            return Skipped(f"numpy array of dtype {str(dtype.name)[:20]!r}")
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, dtype=np.dtype(dtype.code))
        # Copy, because torch needs native byte order and writable memory.
        native = flat.astype(flat.dtype.newbyteorder("="))
        order: Literal["F", "C"] = "F" if fortran else "C"
        return native.reshape(shape, order=order)


@dataclass(frozen=True, eq=False)
class Storage:
    """Holds the bytes of tensors. `offset` is the start within `untyped`, counted in entries."""

    untyped: torch.UntypedStorage
    dtype: torch.dtype
    offset: int = 0


def _from_buffer(data: Any, dtype: Dtype, shape: Any, order: str) -> Array:
    return Array(1, shape, dtype, order == "F", data)


def _scalar(dtype: Dtype, data: Any = b"") -> Array:
    return Array(1, (), dtype, False, data)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError("_codecs.encode")
    return text.encode("latin1")


def _bytes(*text: Any) -> bytes:
    """Stands for bytes and bytearray. Refuses a number, which would allocate that many bytes."""
    if text and not isinstance(text[0], str | bytes | bytearray):
        raise DamagedError("a byte string is built from a value that is neither text nor bytes")
    first = text[0] if text else b""
    return first.encode("latin1") if isinstance(first, str) else bytes(first)


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """Builds a tensor. torch checks that size and stride stay within the storage."""
    return _strided(storage, storage.dtype, offset, size, stride)


def _tensor_of_dtype(
    storage: Storage, offset: int, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Tensor:
    """Builds a tensor of a type that has no storage class (float8, unsigned integers)."""
    return _strided(storage, dtype, offset, size, stride)


def _strided(storage: Storage, dtype: Any, offset: int, size: Any, stride: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise DamagedError("a tensor without a storage")
    place = storage.offset + offset
    empty = torch.empty(0, dtype=dtype, device=storage.untyped.device)
    tensor = empty.set_(storage.untyped, place, size, stride)
    # An expanded tensor repeats entries. A copy of it would need memory for all of them.
    if tensor.nbytes > storage.untyped.nbytes() + TENSOR_BYTES:
        raise DamagedError("a tensor is far larger than its storage")
    return tensor


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(build: Any, _: Any, arguments: Any, __: Any) -> Any:
    """Builds a plain tensor from a subclass of Tensor, if its values are an ordinary tensor's."""
    if isinstance(build, ObjectBuilder) and build.name.startswith("_rebuild_tensor"):
        return build.build(*arguments)
    return Skipped(
        build.name if isinstance(build, ObjectBuilder | Skipped) else "a tensor subclass"
    )


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
    # Quantized tensors are skipped, but the reader has to know the length of their bytes.
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
_BUILDERS: dict[str, dict[str, Callable[..., Any]]] = {
    "collections": {
        "OrderedDict": OrderedDict,
        "Counter": Counter,
        "defaultdict": lambda *_: {},
    },
    "builtins": {
        "bytes": _bytes,
        "bytearray": _bytes,
        "set": set,
        "frozenset": frozenset,
        "complex": complex,
    },
    "_codecs": {"encode": _encoded},
    "numpy": {"dtype": Dtype},
    "torch": {"Size": torch.Size},
    "torch._utils": {
        "_rebuild_tensor": _tensor,
        "_rebuild_tensor_v2": _tensor,
        "_rebuild_tensor_v3": _tensor_of_dtype,
        "_rebuild_parameter": _parameter,
        "_rebuild_parameter_with_state": _parameter,
    },
    "torch._tensor": {"_rebuild_from_type": _from_type, "_rebuild_from_type_v2": _from_type},
    "torch.tensor": {"_rebuild_from_type": _from_type},  # before PyTorch 1.9
}
for _core in ("numpy.core", "numpy._core"):  # before numpy 2, and since
    _BUILDERS[f"{_core}.multiarray"] = {"_reconstruct": Array, "scalar": _scalar}
    _BUILDERS[f"{_core}.numeric"] = {"_frombuffer": _from_buffer}


def _names() -> Iterator[tuple[tuple[str, str], Any]]:
    for module, builders in _BUILDERS.items():
        for name, build in builders.items():
            yield (module, name), ObjectBuilder(name, build)
    for name, value in vars(torch).items():
        if isinstance(value, torch.dtype):
            yield ("torch", name), value
    for name, dtype in _STORAGES.items():
        yield ("torch", name), dtype
    yield ("torch.storage", "UntypedStorage"), torch.uint8


KNOWN = dict(_names())


def finished(value: Any) -> Any:
    """Replaces the stand-ins in `value` by real arrays.

    A bare class or function of the table becomes `Skipped`. So does a container within itself.
    Raises DamagedError beyond a limit of `reading`.
    """
    result = rebuilt(value, _finished_leaf, {})
    check_extent(result)
    return result


def plain(value: Any) -> Any:
    """Converts a finished value for a checkpoint.

    `Skipped` becomes None, arrays become tensors, and numpy's scalars become numbers.
    """
    return rebuilt(value, _plain_leaf, {})


def rebuilt(value: Any, leaf: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    """Rebuilds lists, tuples and dictionaries, with `leaf(x)` for all other values.

    Leaves out entries with keys that are stand-ins.

    Args:
        value: the value to rebuild.
        leaf: converts a value that is no container.
        done: id -> result, so far. A list that occurs in many places is walked once. A container
            within itself becomes `_ITSELF`.
    """
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)], result = _ITSELF, type(value)()
        for key, item in value.items():
            if not isinstance(key, _INERT):
                result[key] = rebuilt(item, leaf, done)
        done[id(value)] = result
    elif type(value) is list:
        done[id(value)] = _ITSELF
        done[id(value)] = [rebuilt(item, leaf, done) for item in value]
    elif type(value) is tuple:
        done[id(value)] = tuple(rebuilt(item, leaf, done) for item in value)
    else:
        done[id(value)] = leaf(value)
    return done[id(value)]


def _finished_leaf(value: Any) -> Any:
    if isinstance(value, Array):
        return value.finished()
    if isinstance(value, set | frozenset):
        return type(value)(item for item in value if not isinstance(item, _INERT))
    if isinstance(value, ObjectBuilder | Dtype | Storage):
        return Skipped(str(getattr(value, "name", "a storage")))
    return value


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, Skipped):
        return None
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value) if value.ndim else value.item()
    return value


_ITSELF = Skipped("container within itself")
_INERT = (Skipped, ObjectBuilder, Array, Dtype, Storage)
