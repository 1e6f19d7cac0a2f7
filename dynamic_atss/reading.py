"""Reads files that may be damaged or hostile: only regular files, and only up to a size limit.

Every limit is defined here with its reason. A file beyond a limit is refused before it takes time
or memory, and the message names the limit. Only INPUT.MAX_PIXELS is a configuration key.
"""

from __future__ import annotations

import codecs
import errno
import math
import os
import stat
from typing import BinaryIO

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30

# Texts.
YAML_BYTES = MB  # thousands of class names take a tenth of it
YAML_DEPTH = 32  # a configuration has 4
YAML_NODES = 100_000  # an alias counts as all its nodes; 21,000 class names take 42,000
YAML_DIRECTIVES = 10  # lines that begin with %: libyaml's time grows with the square of the count
YAML_TEXT = 10_000  # characters of a value: an integer's time grows with the square of its digits
NUMBER_KEY = 15  # characters of a number that is a key: below 2^53 (reason: see PICKLE_KEYS)
JSON_BYTES = 8 * GB  # annotations of Objects365, the largest public set, are 6 GB
XML_BYTES = 8 * MB  # 20,000 boxes; parsed elements take up to 30 times the memory of the text
XML_DEPTH = 32  # VOC has 4: the box of a part of an object
XML_NODES = 300_000  # 20,000 objects of 14 elements are 280,000
LIST_BYTES = 64 * MB  # a million names of 60 characters
LABELS_BYTES = 8 * MB  # 100,000 boxes of one image
RECORD_BYTES = GB  # metrics.jsonl, log.txt: 700,000 lines of 1.5 KB
NAME_BYTES = 4 * KB  # last_checkpoint: Linux allows no longer path

# Pictures. INPUT.MAX_PIXELS is a further limit.
PICTURE_BYTES = 64 * MB  # a larger file is refused if it has too few pixels, and an AVIF always
BYTES_PER_PIXEL = 16  # four channels of 32 bits, not compressed
PICTURE_PARTS = 200_000  # chunks of a PNG (900 MB in chunks of 8 KB have 115,000), parts of a JPEG
HEADER_BYTES = MB  # of a header that a library reads: BMP, PPM, TGA and JPEG 2000 take a few KB
EXIF_BYTES = MB  # a larger block is not EXIF
TILE_PIXELS = 1 << 24  # of one tile of a TIFF, 4096 x 4096, unless the picture has more pixels
FILE_BYTES = 64 * GB  # of a picture whose header is not yet read

# Weights.
WEIGHT_BYTES = 64 * GB  # of a file; a detector with its optimizer has 1 to 4
DOWNLOAD_BYTES = 8 * GB
PICKLE_BYTES = 64 * MB  # of the pickle in a zip, without the tensors
PICKLE_STEPS = 300_000  # operations of one pickle; a large detector with Adam takes 100,000
PICKLE_NODES = 2_000_000  # entries of all containers, counted at each use
PICKLE_DEPTH = 100  # nested containers
# Dictionary keys that are numbers beyond 2^53, fractions or tuples. A file can choose them so that
# all hashes are equal; then each key is compared with all others. Keys of weights are texts and
# small integers.
PICKLE_KEYS = 1000
ZIP_DIRECTORY = 8 * MB  # about 100,000 members; a detector has 1,000
TENSOR_BYTES = 64 * MB  # by which a tensor may exceed its storage, as an expanded tensor does
SAFETENSORS_HEADER = 16 * MB  # about 100 bytes a tensor

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FLAGS = os.O_RDONLY | sum(getattr(os, f"O_{x}", 0) for x in ("NONBLOCK", "CLOEXEC", "BINARY"))


def open_file(path: str | os.PathLike[str], most: int) -> BinaryIO:
    """Opens a file of at most `most` bytes for reading. Never blocks. Opening a pipe could block.

    Raises:
        OSError: the file does not exist, is too large, or is a folder, pipe, socket or device;
            strerror says which.
    """
    handle = _open(path)
    try:
        _check(os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Reads a file of at most `most` bytes. Raises OSError as `open_file`."""
    with open_file(path, most) as file:
        content = file.read(os.fstat(file.fileno()).st_size + KB)
        if len(content) <= most and not file.read(1):
            return content
    raise OSError(errno.EFBIG, "has no known end: it grows, or is not on a disk")


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """Reads a text in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        OSError: as `open_file`.
        UnicodeDecodeError: the file is no such text.
    """
    content = read_bytes(path, most)
    # PowerShell's `>` writes UTF-16.
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8-sig")


def check_memory(needed: int) -> None:
    """Raises OSError if fewer than `needed` bytes of memory are free."""
    left = _memory_left()
    if needed > left:
        raise OSError(
            errno.ENOMEM,
            f"needs {needed / GB:.1f} GB of memory; only {left / GB:.1f} GB are free",
        )


def _memory_left() -> float:
    """Gives the free memory in bytes; infinity if the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return KB * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf


def _open(path: str | os.PathLike[str]) -> int:
    try:
        return os.open(path, _FLAGS)
    except ValueError:  # a null character, or another that no file name can contain
        raise FileNotFoundError(errno.ENOENT, "No file can have such a name") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # Linux's error for a socket
            raise OSError(errno.EINVAL, "is a socket, not a file") from None
        raise


def _check(status: os.stat_result, most: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, not a file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes; at most {most:,} are read")
