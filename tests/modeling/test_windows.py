"""Compares Swin's windows by arithmetic with torchvision's by branches."""

import pytest
import torch
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention

from dynamic_atss.modeling.backbones.windows import Merging, WindowAttention

# One window high or wide, partial windows, several windows, one token.
SIZES = [(7, 7), (5, 9), (14, 3), (15, 29), (1, 1), (28, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0, 3])
def test_attention_is_torchvisions(size, shift):
    theirs = ShiftedWindowAttention(12, [7, 7], [shift, shift], 3)
    ours = WindowAttention(12, [7, 7], [shift, shift], 3)
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_merging_is_torchvisions(size):
    theirs, ours = PatchMerging(12), Merging(12)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
