"""Decoding agrees with Pillow's pixels, resizing with Pillow's within one grey level."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dynamic_atss.data.image import image_size, read_image, resize
from dynamic_atss.errors import UserError


def smooth(height, width, channels):
    """A picture that JPEG keeps nearly as it is."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * (3 + c) + y * (5 - c)) % 256 for c in range(channels)]
    return np.stack(planes, axis=2).astype(np.uint8)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def as_array(tensor):
    return tensor.permute(1, 2, 0).numpy()


def make(mode):
    image = Image.fromarray(smooth(31, 45, 3))
    if mode == "RGBA":
        image.putalpha(Image.fromarray(smooth(31, 45, 1)[:, :, 0]))
        return image
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGB", "BMP"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
    ],
)
def test_modes_equal_pillow(tmp_path, mode, format):
    path = tmp_path / "image"
    path.write_bytes(encoded(make(mode), format))
    expected = np.asarray(Image.open(path).convert("RGB"))
    found = read_image(path)
    assert found.dtype == torch.uint8 and found.shape == (3, 31, 45)
    assert np.array_equal(as_array(found), expected)
    assert image_size(path) == (31, 45)


def test_progressive_and_trailing_bytes(tmp_path):
    path = tmp_path / "image.jpg"
    data = encoded(make("RGB"), "JPEG", progressive=True)
    path.write_bytes(data + b"\0" * 100)
    assert np.array_equal(as_array(read_image(path)), np.asarray(Image.open(path)))


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path):
    grey = (smooth(31, 45, 1)[:, :, 0].astype(np.uint16) << 8) + 77
    for name, format in (("a.png", "PNG"), ("a.tif", "TIFF")):
        path = tmp_path / name
        path.write_bytes(encoded(Image.fromarray(grey), format))
        found = as_array(read_image(path)).astype(int)
        assert np.abs(found - (grey >> 8)[:, :, None]).max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_errors(tmp_path, format, part):
    path = tmp_path / "cut"
    data = encoded(Image.fromarray(smooth(200, 300, 3)), format)
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match="cut: the image cannot be decoded") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_a_thumbnail_does_not_hide_the_truncation(tmp_path):
    exif = Image.Exif()
    thumbnail = encoded(Image.fromarray(smooth(20, 30, 3)), "JPEG")
    exif[0x927C] = thumbnail  # any tag: what matters is an end marker before the scan
    data = encoded(Image.fromarray(smooth(200, 300, 3)), "JPEG", exif=exif)
    assert data.count(b"\xff\xd9") == 2
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[:-500])
    with pytest.raises(UserError, match="truncated"):
        read_image(path)


def test_missing_and_wrong_files(tmp_path):
    with pytest.raises(UserError, match="no such image"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    for function in (read_image, image_size):
        with pytest.raises(UserError, match="not an image"):
            function(tmp_path / "text.jpg")


@pytest.mark.parametrize("old", [(1, 1), (7, 5), (64, 97), (3, 200), (333, 251)])
@pytest.mark.parametrize("new", [(1, 1), (13, 17), (97, 64), (400, 300), (64, 97)])
def test_resize_of_noise(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize(new[::-1], Image.BILINEAR))
    for tensor in (torch.from_numpy(pixels).permute(2, 0, 1),):
        for layout in (tensor, tensor.contiguous()):
            found = resize(layout, *new)
            assert found.shape == (3, *new) and found.dtype == torch.uint8
            assert np.abs(as_array(found).astype(int) - expected).max() <= 1


def test_resize_of_photographs(shared):
    paths = sorted((shared / "data/coco_mini/val2017").glob("*.jpg"))[::8]
    for path in paths:
        image = read_image(path)
        height, width = image.shape[1:]
        for factor in (0.3, 0.7, 1.01, 1.9):
            new = int(height * factor), int(width * factor)
            expected = Image.open(path).convert("RGB").resize(new[::-1], Image.BILINEAR)
            difference = as_array(resize(image, *new)).astype(int) - np.asarray(expected)
            assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("new", [(20, 30), (60, 70), (20, 70)])
def test_the_memory_stays_channels_last(tmp_path, new):
    (tmp_path / "a.jpg").write_bytes(encoded(make("RGB"), "JPEG"))
    image = read_image(tmp_path / "a.jpg")
    for tensor in (image, resize(image, *new), resize(image, *new).flip(2)):
        assert tensor.permute(1, 2, 0).is_contiguous()
