"""Recognises weight files of other programs by their first bytes and says how to convert them."""

from __future__ import annotations

import os
from typing import BinaryIO

from dynamic_atss.weights.archive import zip_directory

_HEAD = 4096  # bytes that are read
_SAVE = "torch.save({name: torch.from_numpy(array), ...}, 'weights.pth')"
_STATE = "torch.save(model.state_dict(), 'weights.pth')"

# First bytes of a file, its kind, and how to get its weights.
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", f"read it with h5py and {_SAVE}"),
    (b"\x93NUMPY", "one array of numpy, without a name", f"give it its name: {_SAVE}"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"GGUF", "a GGUF file", f"load it in the program that wrote it and {_SAVE}"),
)
_FROM_ONNX = (
    f"in the program that trained it: {_STATE}; or take the graph's initializers "
    f"(onnx.numpy_helper.to_array) and {_SAVE}"
)


def foreign(file: BinaryIO) -> str:
    """Describes the kind of a file and how to convert it. Returns "" for an unknown kind."""
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    for beginning, kind, advice in _BEGINNINGS:
        if head.startswith(beginning):
            return f"{kind}: {advice}"
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model: load it there and {_SAVE}"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if _is_onnx(head):
        return f"an ONNX graph: {_FROM_ONNX}"
    if _is_safetensors(head):
        return "a safetensors file: rename it to end with .safetensors"
    return _kind_of_zip(file) if head.startswith(b"PK\x03\x04") else ""


def _is_onnx(head: bytes) -> bool:
    """Returns True for a protobuf that may be a ModelProto.

    Its first field is ir_version, a small number. The next is the producer's name, another text or
    the graph.
    """
    return len(head) > 3 and head[0] == 0x08 and 1 <= head[1] <= 20 and head[2] in _FIELDS


_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # tags of fields 2 to 8 of a ModelProto


def _is_safetensors(head: bytes) -> bool:
    """Returns True if the file begins with the length of a header, followed by JSON."""
    return head[8:10] == b'{"' and 0 < int.from_bytes(head[:8], "little") < 1 << 40


def _kind_of_zip(file: BinaryIO) -> str:
    """Describes a zip archive. Returns "" for one of `torch.save`."""
    try:
        names = zip_directory(file, os.fstat(file.fileno()).st_size).namelist()
    except Exception:  # incomplete: the reader of weights reports that
        return ""
    finally:
        file.seek(0)
    if any(name.endswith("data.pkl") for name in names):
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of numpy arrays (.npz): numpy.load it and {_SAVE}"
    if any(name.endswith(".weights.h5") for name in names):
        return f"a Keras model: load it there and {_SAVE}"
    return "a zip archive, but not of torch.save: unpack it and give the weight file in it"
