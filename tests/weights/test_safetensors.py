"""Damage to `.safetensors` files, which have no checksum: in the header and in numbers."""

import json

import pytest
import torch
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.weights.loading import load_weights, read_file

safetensors = pytest.importorskip("safetensors.torch")
# An entry of a timm body, so that the file is recognised.
STATE = {"conv1.weight": torch.rand(8, 3, 3, 3), "layer1.0.conv1.weight": torch.rand(64, 50)}


@pytest.fixture
def path(tmp_path):
    safetensors.save_file(STATE, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def header_of(data):
    return int.from_bytes(data[:8], "little")


@pytest.mark.parametrize("part", range(0, 100, 5))
def test_truncation_anywhere_is_an_error(path, part):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * part // 100])
    with pytest.raises(UserError, match=r"x\.safetensors: (truncated or damaged|an empty file)"):
        read_file(path)


def test_a_flipped_bit_of_the_header_is_refused_or_changes_only_a_name(path):
    """Shapes, types and offsets have to fill the file exactly."""
    data = path.read_bytes()
    refused = 0
    for bit in range(8 * (8 + header_of(data))):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_file(path)
        except UserError:
            refused += 1
            continue
        assert sorted(x.numel() for x in found.values()) == [216, 3200]
        same = [found[name].equal(value) for name, value in STATE.items() if name in found]
        assert len(same) < 2 or all(same), json.dumps(bit)
    assert refused > 100


def test_a_flipped_bit_of_a_number_goes_unnoticed_unless_it_becomes_nan(path):
    """The format has no checksum, as SECURITY.md says."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1  # in the fraction of the last number
    path.write_bytes(data)
    assert (
        read_file(path)["layer1.0.conv1.weight"][-1, -1] != STATE["layer1.0.conv1.weight"][-1, -1]
    )
    data[-2], data[-1] = 0xC0, 0x7F
    path.write_bytes(data)
    with pytest.raises(UserError, match="NaN or infinity"):
        load_weights(nn.Linear(2, 2), path)
