"""Compares MobileNetV2 with the FCOS release's names and torchvision's results."""

import pytest
import torch
import torchvision
from torchvision.models import MobileNet_V2_Weights

from dynamic_atss.modeling.backbones import MobileNetV2


def release_names():
    """Lists the FCOS release's entries. In a block: 0 conv, 1 norm, 2 ReLU6, 3 conv, ..."""
    convs = ["features.0.0", "features.1.conv.0", "features.1.conv.3"]
    norms = ["features.0.1", "features.1.conv.1", "features.1.conv.4"]
    for block in range(2, 18):
        convs += [f"features.{block}.conv.{i}" for i in (0, 3, 6)]
        norms += [f"features.{block}.conv.{i}" for i in (1, 4, 7)]
    return convs, norms


def test_mobilenet_bears_the_names_of_the_fcos_release():
    convs, norms = release_names()
    state = MobileNetV2().state_dict()
    per_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    want = {f"{c}.weight" for c in convs} | {f"{n}.{part}" for n in norms for part in per_norm}
    assert set(state) == want
    assert state["features.17.conv.6.weight"].shape == (320, 960, 1, 1)
    assert state["features.1.conv.0.weight"].shape == (32, 1, 3, 3)


def test_mobilenet_has_torchvisions_parameters_but_for_the_last_convolution_and_classifier():
    published = MobileNet_V2_Weights.IMAGENET1K_V1.meta["num_params"]
    want = published - 1000 * 1281 - (320 * 1280 + 2 * 1280)
    body = MobileNetV2()
    assert sum(p.numel() for p in body.parameters()) == want
    assert body.out_channels == [32, 96, 320]


def test_mobilenet_is_torchvisions_function():
    theirs = torchvision.models.mobilenet_v2(weights=None).train()
    theirs(torch.randn(2, 3, 64, 64))  # moves the statistics off 0 and 1
    theirs.eval()
    body = MobileNetV2().eval()
    pairs = zip(body.state_dict(), theirs.features[:18].state_dict().values(), strict=True)
    body.load_state_dict(dict(pairs))
    y, want = torch.randn(1, 3, 64, 96), []
    with torch.no_grad():
        got = body(y)
        for i, layer in enumerate(theirs.features[:18]):
            y = layer(y)
            if i in (6, 13, 17):
                want.append(y)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("norm", "learn"), [("BN", 153), ("SyncBN", 153), ("FrozenBN", 51)])
def test_mobilenet_norms(norm, learn):
    body = MobileNetV2(norm=norm).train()
    assert (
        sum(p.requires_grad for p in body.parameters()) == learn
    )  # 51 convolutions, and two parameters per norm
    before = body.features[4].conv[1].running_mean.clone()
    body(torch.randn(2, 3, 64, 64))
    moved = not torch.equal(before, body.features[4].conv[1].running_mean)
    assert moved is (norm != "FrozenBN")
