"""Tests timm bodies: timm's maps and names, freezing, and errors."""

import sys

import pytest
import torch
from torch import nn

from dynamic_atss.modeling.backbones import TimmBody

pytestmark = pytest.mark.slow

timm = pytest.importorskip("timm")


def test_timm_body_gives_timms_own_maps():

    body = TimmBody("test_resnet").eval()
    theirs = timm.create_model("test_resnet", features_only=True).eval()
    names = [k.removeprefix("net.") for k in body.state_dict()]
    assert names == list(theirs.state_dict())
    theirs.load_state_dict(dict(zip(names, body.state_dict().values(), strict=True)))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(body(images), theirs(images)[2:], strict=True):
            torch.testing.assert_close(a, b)
    assert body.out_channels == theirs.feature_info.channels()[2:]


def test_timm_swin_has_its_channels_last_and_takes_any_size():
    body = TimmBody("swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        maps = body(torch.randn(1, 3, 70, 100))
    assert [tuple(y.shape[1:]) for y in maps] == [(192, 12, 16), (384, 6, 8), (768, 3, 4)]


def test_timm_stem_and_stages_end_where_resnets_do():
    frozen = {
        k: {n.split(".")[1] for n, p in body.named_parameters() if not p.requires_grad}
        for k, body in ((k, TimmBody("test_resnet", freeze_at=k)) for k in (1, 2, 3))
    }
    assert "layer1" not in frozen[1] and "conv1" in frozen[1]
    assert frozen[2] == frozen[1] | {"layer1"} and frozen[3] == frozen[2] | {"layer2"}


def test_timm_norms():
    frozen = TimmBody("test_resnet", norm="FrozenBN").train()
    sync = TimmBody("test_resnet", norm="SyncBN")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in (*frozen.modules(), *sync.modules()))
    assert any(isinstance(m, nn.SyncBatchNorm) for m in sync.modules())
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    frozen(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet_18", {}, "'resnet_18'; nearest: timm/resnet18$"),
        ("test_vit", {}, "strides 8, 16, 32, but has 16$"),
        ("test_maxvit", {}, "only images of 160x160 pixels"),
        ("test_resnet.nothing", {}, "nothing"),
        ("hrnet_w18_small", {"freeze_at": 2}, "FREEZE_CONV_BODY_AT 0"),
        ("test_resnet", {"norm": "GN"}, "FrozenBN, BN or SyncBN"),
    ],
)
def test_timm_models_that_do_not_fit_are_refused_in_one_line(name, options, message):
    if name.startswith("test_") and name not in timm.list_models():
        pytest.skip(f"this timm has no {name}")
    with pytest.raises(ValueError, match=message) as caught:
        TimmBody(name, **options)
    assert "\n" not in str(caught.value)


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="pip install timm"):
        TimmBody("resnet18")
