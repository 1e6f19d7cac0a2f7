"""Reading of files that come from elsewhere: only files, and no more of them than is sensible.

Every limit stands here with its reason. A file beyond one of them is refused before it takes time
or memory; the message names the limit. INPUT.MAX_PIXELS is the one limit that is a key.
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
YAML_BYTES = MB  # thousands of class names are a tenth of it
YAML_DEPTH = 32  # a configuration has 4
YAML_NODES = 100_000  # an alias counts as all that it stands for; 21,000 class names take 42,000
YAML_DIRECTIVES = 10  # lines that begin with %: libyaml takes time by the square of their number
YAML_TEXT = 10_000  # characters of one value: whole numbers take time by the square of their digits
NUMBER_KEY = 15  # characters of a number that is a key: below 2^53 (PICKLE_KEYS has the reason)
JSON_BYTES = 8 * GB  # annotations of Objects365, the largest public set, are 6 GB
XML_BYTES = 8 * MB  # 20,000 boxes; as elements a text takes up to 30 times its memory
XML_DEPTH = 32  # VOC has 4: an object's part's box
XML_NODES = 300_000  # 20,000 objects of 14 elements are 280,000
LIST_BYTES = 64 * MB  # a million names of 60 characters
LABELS_BYTES = 8 * MB  # of one image: 100,000 boxes
RECORD_BYTES = GB  # metrics.jsonl, log.txt: 1.5 KB a line, so 700,000 lines
NAME_BYTES = 4 * KB  # of last_checkpoint: Linux has no longer path

# Pictures, besides INPUT.MAX_PIXELS.
PICTURE_BYTES = 64 * MB  # a larger file is held against its pixels before it is read; of AVIF: all
BYTES_PER_PIXEL = 16  # four channels of 32 bits, not compressed
PICTURE_PARTS = 200_000  # chunks of a PNG (900 MB in chunks of 8 KB have 115,000), parts of a JPEG
HEADER_BYTES = MB  # that a library may read for a header: BMP, PPM, TGA and JPEG 2000 take a few KB
EXIF_BYTES = MB  # more is no EXIF
TILE_PIXELS = 1 << 24  # of one tile of a TIFF, 4096 x 4096, unless the picture itself has more
FILE_BYTES = 64 * GB  # of a picture, before its header is known

# Weights.
WEIGHT_BYTES = 64 * GB  # of a file; a detector with its optimizer has 1 to 4
DOWNLOAD_BYTES = 8 * GB
PICKLE_BYTES = 64 * MB  # of the pickle in a zip; the tensors' bytes lie beside it
PICKLE_STEPS = 300_000  # operations of one pickle; a large detector with Adam takes 100,000
PICKLE_NODES = 2_000_000  # entries of all containers, each counted wherever it is used
PICKLE_DEPTH = 100  # containers within each other
# Keys whose hashes a file can choose, so that all are one: numbers beyond 2^53, fractions, tuples.
# Each is compared with all before it then. Weights have texts and small integers as keys.
PICKLE_KEYS = 1000
ZIP_DIRECTORY = 8 * MB  # about 100,000 members; a detector has 1,000
TENSOR_BYTES = 64 * MB  # by which a tensor may exceed its storage (expanded ones repeat entries)
SAFETENSORS_HEADER = 16 * MB  # about 100 bytes a tensor

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FLAGS = os.O_RDONLY | sum(getattr(os, f"O_{x}", 0) for x in ("NONBLOCK", "CLOEXEC", "BINARY"))


def open_file(path: str | os.PathLike[str], most: int) -> BinaryIO:
    """A file for reading, of at most `most` bytes; never waits, as for the other end of a pipe.

    Raises OSError, whose strerror tells why: no such file, no file but a folder, pipe, socket or
    device, or too large.
    """
    handle = _open(path)
    try:
        _check(os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file of at most `most` bytes. Raises OSError as `open_file`."""
    with open_file(path, most) as file:
        content = file.read(os.fstat(file.fileno()).st_size + KB)
        if len(content) <= most and not file.read(1):
            return content
    raise OSError(errno.EFBIG, "has no end that can be told: it grows, or is none of a disk")


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """A text in UTF-8, with or without its mark, or in UTF-16 with its mark. Raises OSError as
    `open_file`, and UnicodeDecodeError."""
    content = read_bytes(path, most)
    # PowerShell's `>` writes UTF-16.
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8-sig")


def check_memory(needed: int) -> None:
    """Raises OSError where the machine has less memory left, as far as it tells."""
    left = _memory_left()
    if needed > left:
        raise OSError(errno.ENOMEM, f"needs {needed / GB:.1f} GB of memory, of {left / GB:.1f}")


def _memory_left() -> float:
    """Bytes; infinity where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return KB * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf


def _open(path: str | os.PathLike[str]) -> int:
    try:
        return os.open(path, _FLAGS)
    except ValueError:  # a null character, or one that no file name has
        raise FileNotFoundError(errno.ENOENT, "No file can have such a name") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # what Linux says of a socket
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
