"""Compares Swin with torchvision's, and tests the norms and the published drop path."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchvision.models import Swin_B_Weights, Swin_S_Weights, Swin_T_Weights

from dynamic_atss.modeling.backbones import Swin
from dynamic_atss.modeling.backbones.swin import SIZES

pytestmark = pytest.mark.slow

WEIGHTS = {"T": Swin_T_Weights, "S": Swin_S_Weights, "B": Swin_B_Weights}


@pytest.mark.parametrize("size", SIZES)
def test_swin_has_torchvisions_parameters_but_for_the_classifier(size):
    with torch.device("meta"):
        body = Swin(size)
        theirs = getattr(torchvision.models, f"swin_{size.lower()}")(weights=None)
    top = body.out_channels[-1]
    published = WEIGHTS[size].IMAGENET1K_V1.meta["num_params"]
    want = published - 2 * top - 1000 * (top + 1) + 2 * sum(body.out_channels)
    assert sum(p.numel() for p in body.parameters()) == want
    norms = [f"norms.{i}.{part}" for i in range(3) for part in ("weight", "bias")]
    state = {k: v.shape for k, v in theirs.state_dict().items() if k.startswith("features.")}
    ours = {k: v.shape for k, v in body.state_dict().items()}
    assert list(ours) == [*state, *norms]
    assert all(ours[k] == shape for k, shape in state.items())


def test_swin_maps_are_torchvisions_through_a_layer_norm():
    theirs = torchvision.models.swin_t(weights=None).eval()
    body = Swin("T").eval()
    state = {k: v for k, v in theirs.state_dict().items() if k.startswith("features.")}
    body.load_state_dict(state, strict=False)
    images = torch.randn(1, 3, 72, 100)
    with torch.no_grad():
        for norm in body.norms:
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
        got = body(images)
        y, maps = images, []
        for i, layer in enumerate(theirs.features):
            y = layer(y)
            if i in (3, 5, 7):
                maps.append(y)
        for norm, raw, ours in zip(body.norms, maps, got, strict=True):
            mean, var = raw.mean(-1, keepdim=True), raw.var(-1, keepdim=True, correction=0)
            want = (raw - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias
            torch.testing.assert_close(ours, want.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_swin_pads_to_whole_patches_with_zeros():
    body = Swin("T").eval()
    images = torch.randn(1, 3, 42, 35)
    with torch.no_grad():
        for a, b in zip(body(images), body(F.pad(images, (0, 1, 0, 2))), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("size", "asked", "last"), [("T", -1, 0.2), ("B", -1, 0.3), ("S", 0.1, 0.1)]
)
def test_drop_path_grows_linearly_to_the_published_rate(size, asked, last):
    with torch.device("meta"):
        body = Swin(size, drop_path=asked)
    rates = [m.p for m in body.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    rates = list(dict.fromkeys(rates))  # attention and MLP of a block
    count = sum(SIZES[size][1])
    assert rates == pytest.approx([last * i / (count - 1) for i in range(count)])


def test_swin_freezes_the_norm_of_a_frozen_stage():
    body = Swin("T", freeze_at=3)  # embedding, C2, C3
    assert {n for n in ("0", "1", "2") if not body.norms[int(n)].weight.requires_grad} == {"0"}
    assert not body.features[3][1].mlp[0].weight.requires_grad
    assert body.features[4].reduction.weight.requires_grad
    with pytest.raises(ValueError, match="Swin-L"):
        Swin("L")
