"""Headers: stored sizes, bits, and the EXIF orientation in all places of the formats."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from dynamic_atss.data.header import image_header, read_headers
from dynamic_atss.data.headers.record import ImageHeader, exif_orientation
from dynamic_atss.errors import UserError


def encoded(format, orientation=None, mode="RGB", **options):
    """Encodes 20 x 30 pixels."""
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def header(tmp_path, data):
    (tmp_path / "image").write_bytes(data)
    return image_header(tmp_path / "image")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_size_as_stored(tmp_path, format, orientation):
    found = header(tmp_path, encoded(format, orientation))
    assert found[:5] == (20, 30, orientation, format, 8) and found.ended
    assert found.upright == ((30, 20) if orientation in (5, 6, 7, 8) else (20, 30))


@pytest.mark.parametrize(
    ("format", "mode", "bits"),
    [
        ("PNG", "1", 1),
        ("PNG", "L", 8),
        ("BMP", "RGB", 8),
        ("GIF", "P", 8),
        ("JPEG", "CMYK", 8),
        ("PNG", "I;16", 16),
        ("TIFF", "I;16", 16),
        ("TIFF", "F", 32),
        ("TIFF", "RGB", 8),
    ],
)
def test_bits(tmp_path, format, mode, bits):
    found = header(tmp_path, encoded(format, mode=mode))
    assert found[:5] == (20, 30, 1, format, bits)
    assert found.channels == (4 if mode == "CMYK" else 0)


def test_progressive_and_fill_bytes(tmp_path):
    data = encoded("JPEG", 8, progressive=True)
    assert header(tmp_path, data[:2] + b"\xff\xff" + data[2:]).orientation == 8


def test_exif_after_the_pixels_of_a_png(tmp_path):
    plain, marked = encoded("PNG"), encoded("PNG", 6)
    at = marked.index(b"eXIf") - 4
    chunk = marked[at : at + 12 + int.from_bytes(marked[at : at + 4], "big")]
    assert header(tmp_path, plain[:-12] + chunk + plain[-12:]).orientation == 6


def block(order, kind, value, count=1):
    """Makes an EXIF block of one entry."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHL", 274, kind, count) + value
    return mark + struct.pack(order + "LH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "code"), [(1, "B3x"), (3, "H2x"), (4, "L")])
def test_numbers_of_an_exif_block(order, kind, code):
    exif = block(order, kind, struct.pack(order + code, 6))
    assert exif_orientation(exif) == exif_orientation(b"Exif\0\0" + exif) == 6


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"nonsense that is no EXIF",
        b"II*\0\xff\xff\xff\xff",  # the entries are beyond the end
        block("<", 3, b"\x06\0\0\0")[:-8],  # the value is missing
        block("<", 3, b"\x09\0\0\0"),
        block("<", 3, b"\0\0\0\0"),
        block("<", 2, b"6\0\0\0"),  # a text
        b"II*\0\x08\0\0\0\xff\xff",  # more entries than there are
    ],
)
def test_malformed_exif_is_ignored(tmp_path, exif):
    assert exif_orientation(exif) == 1
    data = encoded("JPEG")
    content = b"Exif\0\0" + exif
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    assert header(tmp_path, data[:2] + segment + data[2:])[:3] == (20, 30, 1)


def test_a_truncated_jpeg_gives_an_error_or_the_right_header(tmp_path):
    data = encoded("JPEG", 6)
    for end in range(len(data)):
        try:
            assert header(tmp_path, data[:end]) == ImageHeader(20, 30, 6, "JPEG", 8, False, 3)
        except UserError as error:
            assert "image: the image cannot be decoded" in str(error)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_no_pixels(tmp_path, format):
    data = bytearray(encoded(format))
    at = data.index(b"\xff\xc0") + 5 if format == "JPEG" else 20
    data[at : at + 4] = bytes(2) + data[at + 2 : at + 4] if format == "JPEG" else bytes(4)
    with pytest.raises(UserError, match="image: the image cannot be decoded"):
        header(tmp_path, bytes(data))


def test_many_files_in_their_order(tmp_path):
    for i in range(200):
        (tmp_path / f"{i}.png").write_bytes(encoded("PNG", 1 + i % 8))
    (tmp_path / "77.png").write_bytes(b"no image")
    (tmp_path / "99.png").unlink()
    paths = [tmp_path / f"{i}.png" for i in range(200)]
    found = read_headers(paths, "test")
    good = [i for i, h in enumerate(found) if isinstance(h, ImageHeader)]
    assert good == [i for i in range(200) if i not in (77, 99)]
    assert all(found[i].orientation == 1 + i % 8 for i in good)
    assert "77.png: the image cannot be decoded (not an image)" in str(found[77])
    assert "99.png: no such image" in str(found[99])
