"""Damaged PNG files give a one-line error, and libpng prints nothing to stderr."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from dynamic_atss.data.image import read_image
from dynamic_atss.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def written(**options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    value = zlib.crc32(name + content) if checksum is None else checksum
    return len(content).to_bytes(4, "big") + name + content + value.to_bytes(4, "big")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def with_chunk(data: bytes, more: bytes) -> bytes:
    start = data.index(b"IDAT") - 4
    return data[:start] + more + data[start:]


GOOD = written()
DAMAGED = {
    "header": flipped(GOOD, 18),
    "pixels": flipped(GOOD, GOOD.index(b"IDAT") + 500),
    "name of a part": GOOD.replace(b"IDAT", b"IDAX"),
    "checksum": flipped(GOOD, len(GOOD) - 14),
    "half": GOOD[: len(GOOD) // 2],
    "end": GOOD[:-3],
    "unknown part": with_chunk(GOOD, chunk(b"ABCD", b"x")),
}
ODD = {
    "text": with_chunk(GOOD, chunk(b"tEXt", b"abcd", checksum=0)),
    "profile": with_chunk(GOOD, chunk(b"iCCP", b"abcd\0\0xx")),
    "transparent colour": written(transparency=tuple(PIXELS[0, 0].tolist())),
    "after the end": GOOD + b"more",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_without_output_of_libpng(tmp_path, capfd, case):
    (tmp_path / "x.png").write_bytes(DAMAGED[case])
    with pytest.raises(UserError, match=r"x\.png: the image cannot be decoded \(.+\): replace"):
        read_image(tmp_path / "x.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", ODD)
def test_odd_metadata_does_no_harm(tmp_path, capfd, case):
    (tmp_path / "x.png").write_bytes(ODD[case])
    assert np.array_equal(read_image(tmp_path / "x.png").permute(1, 2, 0).numpy(), PIXELS)
    assert capfd.readouterr() == ("", "")
