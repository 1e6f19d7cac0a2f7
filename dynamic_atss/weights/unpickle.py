"""Reading of weight files without running anything that they hold.

Files of `torch.save` go through torch's `weights_only=True`; other pickles (Caffe2's) through an
unpickler that admits numpy arrays and plain containers only. Arrays are rebuilt here from their
bytes: numpy's own state setters trust the file, and a forged dtype makes them read wild pointers.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dynamic_atss.errors import UserError

# How a file begins that torch.save wrote: a zip archive since 1.6; before, this magic number.
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
_DAMAGED = "truncated, damaged or not a weight file: fetch or copy it again"


def read_weights(path: Path) -> Any:
    """What the file holds: tensors, numpy arrays and plain containers.

    Raises UserError for a file that is missing, damaged, or that holds anything else; it names it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weight file; set MODEL.WEIGHT to an existing one")
    with open(path, "rb") as file:
        head = file.read(len(_LEGACY))
    if head.startswith(_ZIP) or head == _LEGACY:
        return load_torch(path)
    return _load_pickle(path)


def load_torch(path: Path) -> Any:
    """`torch.load(weights_only=True)` on the CPU, its errors as UserError of one line."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|class '(\S+?)'>", str(error))
        if found is None:
            raise UserError(f"{path}: {_DAMAGED}") from error
        raise UserError(_refusal(path, found[1] or found[2])) from error
    except Exception as error:  # torch's reader of broken files fails in many ways
        raise UserError(f"{path}: {_DAMAGED}") from error


def _refusal(path: Path, name: str) -> str:
    name = name if "." in name else f"builtins.{name}"
    return (
        f"{path}: refused, the file holds {name}, which is no part of weights and could run code; "
        "save the weights alone"
    )


def _load_pickle(path: Path) -> Any:
    try:
        with open(path, "rb") as file:
            return _finish(_Unpickler(file, encoding="latin1").load())
    except _RefusedError as refused:
        raise UserError(_refusal(path, str(refused))) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a forged or broken stream can fail anywhere
        raise UserError(f"{path}: {_DAMAGED}") from error


class _RefusedError(Exception):
    """The file asks for a class or function outside the list."""


class _Dtype:
    """Stands for numpy.dtype: numbers only, "f4" or "<f4"."""

    __slots__ = ("code",)

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[<>|=]?[fiub][1248]", code):
            raise _RefusedError(f"numpy.dtype {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.code = state[1] + self.code.lstrip("<>|=")


class _Array:
    """Stands for numpy.ndarray until its bytes are known."""

    __slots__ = ("data", "dtype", "order", "shape")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, fortran, self.data = state
        self.order: Literal["F", "C"] = "F" if fortran else "C"

    def numpy(self) -> np.ndarray:
        raw = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(raw, dtype=np.dtype(self.dtype.code))
        # A copy in native byte order: torch takes no other, nor memory that it may not write.
        native = flat.astype(flat.dtype.newbyteorder("="))
        return native.reshape(self.shape, order=self.order)


def _reconstruct(kind: type, *_: Any) -> _Array:
    if kind is not _Array:
        raise _RefusedError("numpy.core.multiarray._reconstruct of something else")
    return _Array()


def _from_buffer(data: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _Dtype, data: bytes | str) -> _Array:
    return _from_buffer(data, dtype, (), "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _no_bytes(*args: Any) -> bytes:
    """Empty bytes of old protocols; anything else could ask for any amount of memory."""
    if args:
        raise _RefusedError("builtins.bytes of something")
    return b""


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            module = "builtins" if module == "__builtin__" else module
            raise _RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a persistent id")


def _finish(value: Any) -> Any:
    """The value with real arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _finish(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finish(item) for item in value]
    return value
