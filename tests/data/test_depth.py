"""Warnings of 16-bit files that use fewer bits, with the count and the key to set."""

import cv2
import numpy as np
import pytest

from dynamic_atss.data.depth import check_bits, largest_value
from dynamic_atss.data.header import image_header


def lines(folder, caplog, largest, bits, count=3, ending="png"):
    """Returns the messages about grey pictures with these largest values."""
    paths = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, largest, (20, 30), dtype=np.uint16)
        pixels[3, 4] = largest if i == count // 2 else largest // 2
        paths.append(folder / f"{i}.{ending}")
        cv2.imwrite(str(paths[-1]), pixels)
    with caplog.at_level("WARNING"):
        check_bits(paths, [image_header(path) for path in paths], bits, "a.json")
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("largest", "advice"), [(4095, 12), (2224, 12), (900, 10), (16383, 14), (200, 8)]
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_few_used_bits_give_a_warning(tmp_path, caplog, largest, advice, ending):
    (line,) = lines(tmp_path, caplog, largest, 0, ending=ending)
    assert line.startswith(
        f"a.json: 3 images have 16 bits. The largest value in 3 of them is {largest}"
    )
    assert f"1.{ending}" in line and line.endswith(f"nearly black: set INPUT.BITS {advice}")


@pytest.mark.parametrize(("largest", "bits"), [(65535, 0), (40000, 0), (4095, 12), (4095, 14)])
def test_values_that_fit_give_no_warning(tmp_path, caplog, largest, bits):
    assert lines(tmp_path, caplog, largest, bits) == []


def test_values_above_the_key_give_a_warning(tmp_path, caplog):
    (line,) = lines(tmp_path, caplog, 4095, 10)
    assert line.endswith("With INPUT.BITS 10 they are partly white: set INPUT.BITS 12")


def test_only_some_of_many_images_are_opened(tmp_path, caplog):
    (line,) = lines(tmp_path, caplog, 1000, 0, count=100)
    assert "100 images have 16 bits. The largest value in 8 of them" in line


def test_the_largest_value_of_other_files_is_0(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no image")
    assert largest_value(tmp_path / "a.png") == largest_value(tmp_path / "b.png") == 0
