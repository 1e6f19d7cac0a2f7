"""Defines a custom body: five times a convolution of stride 2, norm and ReLU.

python tools/train_net.py --config-file configs/quickstart/bccd_R_18.yaml \
  MODEL.BACKBONE.CONV_BODY examples/plain_body.py:PlainBody MODEL.BACKBONE.ARGS.width 32
"""

from torch import Tensor, nn


class PlainBody(nn.Module):
    """Gives maps of strides 8, 16 and 32. `out_channels` lists their channels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                nn.ReLU(),
            )
            for i in range(5)
        )
        self.out_channels = channels[3:]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Computes the maps.

        Args:
            x: images (N, 3, H, W).
        """
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2:]
