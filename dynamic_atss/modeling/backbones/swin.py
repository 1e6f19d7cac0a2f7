"""Adapts torchvision's Swin transformer (Liu et al. 2021, arXiv 2103.14030) to detection."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlock

from dynamic_atss.modeling.backbones.frozen import FrozenParts, check_freeze_at, pad_to
from dynamic_atss.modeling.backbones.windows import Merging, WindowAttention

# size: (channels of C2, blocks per stage, heads per stage, drop path of the published detectors)
SIZES = {
    "T": (96, [2, 2, 6, 2], [3, 6, 12, 24], 0.2),
    "S": (96, [2, 2, 18, 2], [3, 6, 12, 24], 0.2),
    "B": (128, [2, 2, 18, 2], [4, 8, 16, 32], 0.3),
}
WINDOW = 7  # tokens of a window's side
PATCH = 4  # pixels of a token's side
STAGES = (2, 4, 6, 8)  # ends of the stages C2 to C5 in torchvision's `features`


class Swin(FrozenParts):
    """Computes C3, C4, C5 by Swin-T, -S or -B, each map after a layer norm.

    The strides are 8, 16 and 32. `features.*` has torchvision's names. `norms.0` to `norms.2`
    belong to C3 to C5, and mmdetection calls them norm1 to norm3. torchvision's classifier and last
    norm are left out. `out_channels` lists the channels of the maps.

    As in torchvision, maps of at most 7 tokens are not shifted. The published detectors shift them,
    which makes a difference below 225 pixels.

    Args:
        size: "T", "S" or "B".
        drop_path: probability that a sample skips the last block. It grows linearly from 0 for the
            first block. -1: that of the published detectors.
        freeze_at: number of parts that do not learn. 1: the patch embedding, 2: also the first
            stage, ... 5: all.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(self, size: str, *, drop_path: float = -1.0, freeze_at: int = 0) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"no Swin-{size}: size must be one of {', '.join(SIZES)}")
        check_freeze_at(freeze_at, 1 + len(STAGES), "the patch embedding and four stages")
        channels, depths, heads, published = SIZES[size]
        model = SwinTransformer(
            [PATCH] * 2,
            channels,
            depths,
            heads,
            [WINDOW] * 2,
            stochastic_depth_prob=published if drop_path < 0 else drop_path,
            block=partial(SwinTransformerBlock, attn_layer=WindowAttention),
            downsample_layer=Merging,
        )
        self.features = model.features
        self.out_channels = [channels * 2**level for level in (1, 2, 3)]
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-5) for c in self.out_channels)
        end = (0, 1, *STAGES)[freeze_at]
        self.freeze([*self.features[:end], *self.norms[: max(freeze_at - 2, 0)]])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Gives C3, C4, C5 of x (N, 3, H, W). C3 is (N, C, ceil(H/8), ceil(W/8)).

        Pads images with zeros to full patches, as the published detectors do.
        """
        x = pad_to(x, PATCH)
        maps, start = [], 0
        for end in STAGES:
            x = self.features[start:end](x)
            maps.append(x)
            start = end
        pairs = zip(self.norms, maps[1:], strict=True)
        return [norm(y).permute(0, 3, 1, 2) for norm, y in pairs]
