"""Refuses headers that claim too much, or hide another size, before memory is allocated."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from dynamic_atss.data import image
from dynamic_atss.data.header import image_header
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.image import read_image
from dynamic_atss.errors import UserError


def encoded(format, height, width, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, format, **options)
    return buffer.getvalue()


JPEG = encoded("JPEG", 40, 60)
FRAME = JPEG.index(b"\xff\xc0")
SMALL = bytes.fromhex("ffc0000b080010001001011100")  # a frame of 16 x 16


def segment(marker, content):
    return bytes([0xFF, marker]) + (2 + len(content)).to_bytes(2, "big") + content


def hidden(before):
    """Puts `before` before the frame header. A reader that takes it for a length finds SMALL."""
    length = FRAME + 2 + int.from_bytes(JPEG[FRAME + 2 : FRAME + 4], "big")
    frame = JPEG[FRAME:length]
    filling = segment(0xE2, bytes(0xFFC0 - len(frame) - 4) + SMALL)
    return JPEG[:2] + before + frame + filling + JPEG[2:FRAME] + JPEG[length:]


@pytest.mark.parametrize(
    "before", [b"\xff\xd0", b"\xff\xd7", b"\xff\x01", b"x", b"\xff\0", b"\xff"]
)
def test_the_size_of_a_jpeg_is_that_of_its_decoder(tmp_path, before):
    path = tmp_path / "x.jpg"
    path.write_bytes(hidden(before))
    assert image_header(path)[:2] == (40, 60)
    with pytest.raises(UserError, match=r"60 x 40 pixels, more than INPUT\.MAX_PIXELS 2399"):
        read_image(path, max_pixels=2399)


@pytest.mark.parametrize("size", [0, 1])
def test_a_segment_that_is_too_short(tmp_path, size):
    path = tmp_path / "x.jpg"
    path.write_bytes(JPEG[:2] + b"\xff\xe1" + bytes([0, size]) + JPEG[2:])
    with pytest.raises(UserError, match="too short"):
        image_header(path)


def test_a_frame_that_only_pillow_finds_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "_opencv_is_right_about_jpeg", lambda *_: False)
    path = tmp_path / "x.jpg"
    path.write_bytes(JPEG[:FRAME] + JPEG[FRAME:-2].replace(b"\xff\xda", SMALL + b"\xff\xda", 1))
    with pytest.raises(UserError, match="differ in size"):
        read_image(path)


def test_a_decoder_of_another_size_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(JPEG)
    monkeypatch.setattr(image, "header_of", lambda _: ImageHeader(40, 61, 1, "JPEG", 8, True, 3))
    with pytest.raises(UserError, match="differ in size"):
        read_image(tmp_path / "x.jpg")


def test_a_png_begins_with_its_header(tmp_path):
    png = encoded("PNG", 40, 60)
    text = b"tEXt" + struct.pack(">LL5x", 16, 16)
    chunk = struct.pack(">L", 13) + text + struct.pack(">L", zlib.crc32(text))
    (tmp_path / "x.png").write_bytes(png[:8] + chunk + png[8:])
    with pytest.raises(UserError, match="does not begin with IHDR"):
        image_header(tmp_path / "x.png")


def tiff(big=False, order="<", **tags):
    """Makes a TIFF header of tags by number, each a LONG."""
    entry = "HHQ" if big else "HHL"
    mark = b"II" if order == "<" else b"MM"
    start = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HL", 42, 8)
    entries = b""
    for tag, value in tags.items():
        packed = struct.pack(order + "L", value).ljust(8 if big else 4, b"\0")
        entries += struct.pack(order + entry, int(tag[1:]), 4, 1) + packed
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return mark + start + count + entries + bytes(8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tags_of_a_tiff(tmp_path, big, order):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(big, order, t256=30, t257=20, t274=6, t258=16, t999=1))
    assert image_header(path) == ImageHeader(20, 30, 6, "TIFF", 16)
    path.write_bytes(tiff(big, order, t256=30, t257=20, t322=4096, t323=4096))
    assert image_header(path)[:2] == (20, 30)
    path.write_bytes(tiff(big, order, t256=30, t257=20, t322=4096, t323=4097))
    for read in (image_header, read_image):
        with pytest.raises(UserError, match="tiles of 16,781,312 pixels"):
            read(path)


@pytest.mark.parametrize("place", [2**64 - 1, 2**63 - 1, 10**6])
def test_a_directory_beyond_the_file(tmp_path, place):
    path = tmp_path / "x.tif"
    path.write_bytes(b"II" + struct.pack("<HHHQ", 43, 8, 0, place) + bytes(8))
    with pytest.raises(UserError, match="cannot be decoded"):
        image_header(path)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": b"x"}])
def test_sizes_of_webp(tmp_path, options):
    path = tmp_path / "x.webp"
    path.write_bytes(encoded("WEBP", 20, 30, **options))
    assert image_header(path) == ImageHeader(20, 30, 1, "WEBP", 8)


def test_the_first_picture_of_a_gif_may_be_larger_than_its_screen(tmp_path):
    path, data = tmp_path / "x.gif", bytearray(encoded("GIF", 20, 30, comment=b"x" * 600))
    data[6:10] = struct.pack("<HH", 4, 5)
    path.write_bytes(data)
    assert image_header(path)[:2] == (20, 30) and read_image(path).shape == (3, 20, 30)
    for empty in (b"!\xf9\0", b"!\xff\x0bNETSCAPE2.0\0"):
        path.write_bytes(data.replace(b"!\xfe", empty + b"!\xfe", 1))
        with pytest.raises(UserError, match="an extension of a GIF without content"):
            image_header(path)


def test_an_icon_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(encoded("ICO", 32, 32))
    with pytest.raises(UserError, match=r"icons .*save it as a PNG"):
        image_header(tmp_path / "x.jpg")


def box(name, length):
    return struct.pack(">L", length) + name


LONG = {
    "jpeg, bytes between": b"\xff\xd8",
    "jpeg, no size": b"\xff\xd8\xff\xe1\0\1",
    "webp": b"RIFF\xf0\xff\xff\x7fWEBPVP8 " + bytes(8),
    "webp, chunks": b"RIFF\xf0\xff\xff\x7fWEBPVP8X\x0a\0\0\0\x08" + bytes(9),
    "avif": box(b"ftypavif\0\0\0\0avifmif1miaf", 28),
    "tiff": b"MM\0\x2b\0\x08\0\0" + struct.pack(">QQ", 16, 1 << 40),
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n"
    + box(b"ftypjp2 \0\0\0\0jp2 ", 20)
    + box(b"jp2h", 0x7FFFFFF0),
    "ppm": b"P6\n#",
    "bmp": b"BM" + struct.pack("<LLLLllHHLLllLL", 0, 0, 54, 40, 9, 9, 1, 8, 0, 0, 0, 0, 1 << 30, 0),
    "gif": b"GIF89a" + bytes(7),
}


@pytest.mark.slow
@pytest.mark.parametrize("read", [image_header, read_image])
@pytest.mark.parametrize("name", LONG)
def test_no_header_needs_all_of_a_long_file(tmp_path, capfd, name, read):
    path = tmp_path / "x"
    path.write_bytes(LONG[name])
    with open(path, "r+b") as file:
        file.truncate(1 << 33)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"cannot be decoded|bytes for"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert capfd.readouterr() == ("", "")
