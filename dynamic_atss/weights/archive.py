"""Reads files of `torch.save`: zip archives (PyTorch 1.6 and later) and the older streams."""

from __future__ import annotations

import io
import sys
import zipfile
from typing import Any, BinaryIO

import torch

from dynamic_atss.reading import PICKLE_BYTES, ZIP_DIRECTORY
from dynamic_atss.weights.bounds import DamagedError
from dynamic_atss.weights.object_builders import KNOWN, Storage
from dynamic_atss.weights.safe_pickle import Machine, ObjectBuilder

ZIP = b"PK\x03\x04"
STREAM = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
_END_RECORD = (1 << 16) + 200  # bytes at the end that hold the record and a comment after it
_COUNT = 8  # bytes before each storage of a stream that give its number of entries


def read_zip(file: BinaryIO, size: int, *, tensors: bool = True) -> Any:
    """Returns the content of an archive of `size` bytes. Checks each part against its checksum.

    Args:
        file: the open file.
        size: bytes of the file.
        tensors: False leaves the bytes of tensors on the disk. The tensors are then on the device
            "meta" and have only shape and type.

    Raises DamagedError, or an error of zipfile, for an incomplete file. Raises DamagedError, before
    anything is inflated, for parts that are larger than the file.
    """
    archive = open_zip(file, size)
    (pickled,) = (n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl"))
    prefix = pickled.removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    swapped = order in archive.namelist() and _part(archive, order) != sys.byteorder.encode()
    storages: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        _, dtype, key, _, count = pid
        _check_key(key)
        if not tensors:
            return Storage(torch.UntypedStorage(count * dtype.itemsize, device="meta"), dtype)
        if key not in storages:
            content = bytearray(_part(archive, f"{prefix}data/{key}"))
            storages[key] = _storage(content, dtype, count)
            if swapped:
                storages[key].untyped.byteswap(dtype)
        return storages[key]

    length = archive.getinfo(pickled).file_size
    if length > PICKLE_BYTES:
        raise DamagedError(f"a pickle of {length:,} bytes; the limit is {PICKLE_BYTES:,}")
    stream = io.BytesIO(_part(archive, pickled))
    return Machine(stream, ALL_KNOWN, size, storage).load()


def open_zip(file: BinaryIO, size: int) -> zipfile.ZipFile:
    """Opens an archive of `size` bytes. Inflates nothing.

    Raises the errors of `zip_directory`. Raises DamagedError for parts that are larger than the
    file (PyTorch does not compress) or compressed by another method than deflate.
    """
    archive = zip_directory(file, size)
    parts = archive.infolist()
    if sum(part.file_size for part in parts) > size:
        raise DamagedError("its parts are larger than the file")
    for part in parts:
        _check_method(part)
    return archive


def _check_method(part: zipfile.ZipInfo) -> None:
    """Raises DamagedError for a part that cannot be read in pieces or has contradictory sizes.

    zipfile inflates bzip2 and LZMA without a limit.
    """
    stored = part.compress_type == zipfile.ZIP_STORED
    if not stored and part.compress_type != zipfile.ZIP_DEFLATED:
        raise DamagedError(f"compressed by method {part.compress_type}; only deflate is supported")
    if stored and part.compress_size != part.file_size:
        raise DamagedError("a part that is not compressed has two sizes")


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    """Reads one part up to its declared size and checks it against its checksum.

    `ZipFile.read` would inflate the entire stream before it cuts it.
    """
    info = archive.getinfo(name)
    with archive.open(info) as part:
        content = part.read(info.file_size)
        # The second read reaches the end of an empty part, where the checksum is compared.
        if part.read(1) or len(content) != info.file_size:
            raise DamagedError("the size of a part differs from the directory")
    return content


def zip_directory(file: BinaryIO, size: int) -> zipfile.ZipFile:
    """Opens any zip archive of `size` bytes and reads its directory.

    Raises DamagedError, or an error of zipfile, for an incomplete file or for too many parts.
    """
    if _directory_bytes(file, size) > ZIP_DIRECTORY:
        raise DamagedError("the zip directory is too long")
    return zipfile.ZipFile(file)


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """Reads the length of the directory from the end record. zipfile refuses a wrong one."""
    file.seek(max(0, size - _END_RECORD))
    end = file.read(_END_RECORD)
    file.seek(0)
    at = max(0, end.rfind(b"PK\5\6"))
    if end[at - 20 : at - 16] == b"PK\6\7" and at >= 76:  # zip64, for many GB
        return int.from_bytes(end[at - 36 : at - 28], "little")
    return int.from_bytes(end[at + 12 : at + 16], "little")


def read_stream(file: BinaryIO, size: int) -> Any:
    """Returns the content of a stream of `size` bytes: pickles, then the bytes of the storages.

    Raises DamagedError, or an error of the pickle machine, for an incomplete file.
    """
    _, _, system = (Machine(file, {}, size).load() for _ in range(3))
    found: dict[str, tuple[Storage, bytearray]] = {}
    left = [size]

    def storage(pid: Any) -> Any:
        kind, *fields = pid
        if kind == "module":  # a class, with its source text
            return fields[0]
        dtype, key, _, count, view = fields
        _check_key(key)
        if key not in found:
            left[0] -= count * dtype.itemsize
            if count < 0 or left[0] < 0:
                raise DamagedError("storages larger than the file")
            content = bytearray(count * dtype.itemsize)
            found[key] = _storage(content, dtype, count), content
        base = found[key][0]
        return base if view is None else Storage(base.untyped, dtype, view[1])

    value = Machine(file, ALL_KNOWN, size, storage).load()
    for key in Machine(file, {}, size).load():
        _fill(file, *found[key], swapped=system["little_endian"] is not (sys.byteorder == "little"))
    return value


def _check_key(key: Any) -> None:
    """Raises DamagedError for a key that is not a string.

    A file could choose numbers that all have the same hash.
    """
    if not isinstance(key, str):
        raise DamagedError("the key of a storage is not a string")


def _fill(file: BinaryIO, storage: Storage, content: bytearray, swapped: bool) -> None:
    count = int.from_bytes(file.read(_COUNT), sys.byteorder)
    complete = count * storage.dtype.itemsize == len(content)
    if not complete or file.readinto(content) != len(content):  # type: ignore[attr-defined]
        raise DamagedError("the size of a storage is not the declared size")
    if swapped:
        storage.untyped.byteswap(storage.dtype)


def _storage(content: bytearray, dtype: torch.dtype, count: int) -> Storage:
    """Makes a storage that shares the memory of `content`."""
    if len(content) < count * dtype.itemsize:
        raise DamagedError("a storage is too short")
    if not content:  # torch refuses an empty buffer
        return Storage(torch.UntypedStorage(0), dtype)
    return Storage(torch.frombuffer(content, dtype=torch.uint8).untyped_storage(), dtype)


def _stream_in_bytes(content: bytes) -> Any:
    return read_stream(io.BytesIO(content), len(content))


# Plain pickle writes each tensor's storage as a separate stream.
ALL_KNOWN = KNOWN | {
    ("torch.storage", "_load_from_bytes"): ObjectBuilder(
        "torch.storage._load_from_bytes", _stream_in_bytes
    )
}
