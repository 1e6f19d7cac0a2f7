"""Reads damaged pictures: headers, pixels, and the check of the end."""

import io

import numpy as np
import pytest
import torch
from helpers_fuzz import REFUSED, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dynamic_atss.data.header import image_header
from dynamic_atss.data.image import check_end, read_image

pytestmark = pytest.mark.slow

MOST = 250_000  # pixels
KINDS = (
    ("RGB", "JPEG", {}),
    ("L", "JPEG", {}),
    ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}),
    ("P", "PNG", {}),
    ("LA", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("1", "PNG", {}),
    ("P", "GIF", {}),
    ("I;16", "PNG", {}),
    ("RGB", "BMP", {}),
    ("RGB", "WEBP", {}),
    ("L", "TIFF", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("RGB", "WEBP", {"lossless": True}),
    ("I;16", "TIFF", {}),
    ("F", "TIFF", {}),
)


def encoded(mode, format, options):
    y, x = np.mgrid[:13, :19]
    grey = Image.fromarray((x * 7 + y * 11).astype(np.uint16 if mode == "I;16" else np.uint8))
    picture = grey if mode == "I;16" else grey.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    buffer = io.BytesIO()
    picture.save(buffer, format, **options, **({"exif": exif} if format == "JPEG" else {}))
    return buffer.getvalue()


PICTURES = [encoded(*kind) for kind in KINDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


def check_picture(path, **options):
    """Checks that the pixels have the size of the header, or that the file is refused."""
    header = outcome(image_header, path)
    pixels = outcome(read_image, path, max_pixels=MOST, **options)
    if pixels is REFUSED:
        return
    assert header is not REFUSED and pixels.dtype == torch.uint8
    sides = (header.height, header.width)
    turned = options["orientation"] >= 5
    assert pixels.shape == (3, *(sides[::-1] if turned else sides)) and min(sides) > 0
    assert header.height * header.width <= MOST and 1 <= header.orientation <= 8
    assert outcome(check_end, path, header, MOST) is not REFUSED


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[f"{m} {f}" for m, f, _ in KINDS])
def test_valid_pictures_are_read(folder, number):
    path = folder / "valid"
    path.write_bytes(PICTURES[number])
    found = outcome(read_image, path, max_pixels=MOST)
    assert (found is REFUSED) == (KINDS[number][0] == "F")


@given(data=damaged(PICTURES), orientation=st.integers(1, 8), bits=st.sampled_from([0, 8, 12, 16]))
def test_damaged_pictures(folder, data, orientation, bits):
    path = folder / "a"
    path.write_bytes(data)
    check_picture(path, orientation=orientation, bits=bits)
