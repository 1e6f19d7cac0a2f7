"""MODEL.BACKBONE.CONV_BODY and its related keys."""

import re

import pytest
import torch
from torch import nn

from dynamic_atss.builders import check_config
from dynamic_atss.builders.backbone import BODIES, KEY, build_backbone, build_body
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import MobileNetV2, ResNet, Swin, TimmBody
from dynamic_atss.modeling.layers import FrozenBatchNorm2d, SyncBatchNorm2d

LIGHT = ["MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "64"]


def config(tmp_path, name, *overrides):
    path = tmp_path / "a.yaml"
    path.write_text(f'MODEL:\n  ATSS_ON: True\n  BACKBONE:\n    CONV_BODY: "{name}"\n')
    return load_config(path, [*LIGHT, *overrides])


@pytest.fixture
def meta():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("suffix", ["", "-RETINANET"])
@pytest.mark.parametrize("name", BODIES)
def test_every_name_of_the_table_builds_with_its_pyramid(tmp_path, meta, name, suffix):
    model = build_backbone(config(tmp_path, name + suffix))
    kind = {"R": ResNet, "S": Swin, "M": MobileNetV2}[name[0]]
    assert type(model.body) is kind
    assert [model.fpn.get_submodule(f"fpn_inner{i}").in_channels for i in (2, 3, 4)] == (
        model.body.out_channels
    )
    assert model.fpn.top_blocks.p6.in_channels == model.body.out_channels[-1]  # from C5
    names = {name.split(".")[1] for name in model.state_dict() if name.startswith("body.")}
    assert names <= {"stem", "layer1", "layer2", "layer3", "layer4", "features", "norms"}


def test_any_timm_model(tmp_path):
    pytest.importorskip("timm")
    cfg = config(tmp_path, "timm/test_convnext", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0")
    model = build_backbone(cfg)
    assert type(model.body) is TimmBody
    assert [tuple(y.shape[1:]) for y in model(torch.randn(1, 3, 64, 96))] == [
        (64, 8, 12),
        (64, 4, 6),
        (64, 2, 3),
        (64, 1, 2),
        (64, 1, 1),
    ]


@pytest.mark.parametrize(
    ("body", "overrides", "norm"),
    [
        ("R-18-FPN", [], FrozenBatchNorm2d),
        ("R-18-FPN", ["MODEL.USE_SYNCBN", "True"], SyncBatchNorm2d),
        ("R-18-FPN", ["MODEL.RESNETS.NORM", "SyncBN"], SyncBatchNorm2d),
        ("R-18-FPN", ["MODEL.BACKBONE.USE_GN", "True"], nn.GroupNorm),
        ("R-18-FPN", ["MODEL.RESNETS.NORM", "GN"], nn.GroupNorm),
        ("MNV2-FPN-RETINANET", [], nn.BatchNorm2d),
        ("MNV2-FPN-RETINANET", ["MODEL.USE_SYNCBN", "True"], SyncBatchNorm2d),
        ("MNV2-FPN-RETINANET", ["MODEL.RESNETS.NORM", "FrozenBN"], FrozenBatchNorm2d),
    ],
)
def test_the_norm_that_the_keys_ask_for(tmp_path, meta, body, overrides, norm):
    known = (FrozenBatchNorm2d, SyncBatchNorm2d, nn.GroupNorm, nn.BatchNorm2d)
    body = build_body(config(tmp_path, body, *overrides))
    assert {type(m) for m in body.modules() if isinstance(m, known)} == {norm}


def test_group_norm_in_the_pyramid(tmp_path, meta):
    cfg = config(tmp_path, "R-18-FPN", "MODEL.FPN.USE_GN", "True", "MODEL.FPN.USE_RELU", "True")
    fpn = build_backbone(cfg).fpn
    for part in ("inner2", "inner3", "inner4", "layer2", "layer3", "layer4"):
        kinds = [type(m) for m in fpn.get_submodule(f"fpn_{part}")]
        assert kinds == [nn.Conv2d, nn.GroupNorm, nn.ReLU]
    assert isinstance(fpn.top_blocks.p6, nn.Conv2d)  # P6 and P7 have no norm


def test_drop_path_of_swin_by_its_key(tmp_path, meta):
    body = build_body(config(tmp_path, "SWIN-T-FPN", "MODEL.SWIN.DROP_PATH", "0.4"))
    assert body.features[-1][-1].stochastic_depth.p == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("SWIN-L-FPN", [], "SWIN-<T|S|B>-FPN-RETINANET, .*nearest: SWIN-[TSB]-FPN-RETINANET"),
        ("R-51-FPN-RETINANET", [], "nearest: R-50-FPN-RETINANET|nearest: R-101-FPN-RETINANET"),
        ("R-50", [], "nearest: R-50-FPN-RETINANET"),
        ("timm/resnet_18", [], "nearest: timm/resnet18"),
        ("SWIN-T-FPN", ["MODEL.RESNETS.STAGE_WITH_DCN", "(0,0,0,1)"], "no deformable stages"),
        ("MNV2-FPN", ["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "19"], "freeze_at .*0 to 18"),
        ("R-18-FPN", ["MODEL.RESNETS.NORM", "LN"], "FrozenBN, .*GN"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(tmp_path, meta, name, overrides, message):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    overrides = [value.replace("0,0,0,1", "False, False, False, True") for value in overrides]
    with pytest.raises(UserError, match=message.replace("|S|B>", r"\|S\|B>")) as caught:
        build_backbone(config(tmp_path, name, *overrides))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["R-18-FPN", "timm/test_resnet"])
def test_arguments_for_a_body_of_the_package_are_refused(tmp_path, name):
    """The check comes before the data sets are read, too."""
    cfg = config(tmp_path, name, "MODEL.BACKBONE.ARGS.width", "8")
    for use in (build_body, check_config):
        with pytest.raises(UserError, match=rf"MODEL.BACKBONE.ARGS.width: {name} takes no") as err:
            use(cfg)
        assert "\n" not in str(err.value)


BODY = """
from torch import nn
class Body(nn.Module):
    out_channels = {}
    def forward(self, x):
        return [x.mean((1, 2, 3), keepdim=True).expand(1, 4, 64 // s, 64 // s) for s in (8, 16, 32)]
"""


@pytest.mark.parametrize("wrong", ["8", "None", "[4, 4]", "[4, 4, 4.0]", "'444'", "[4, 4, 4, 4]"])
def test_channels_that_are_no_list_of_three(tmp_path, wrong):
    (tmp_path / "body.py").write_text(BODY.format(wrong))
    with pytest.raises(UserError, match=r"its out_channels is .*; a body is") as caught:
        build_body(config(tmp_path, "R-18-FPN", KEY, f"{tmp_path}/body.py:Body"))
    assert f"is {eval(wrong)!r};" in str(caught.value) and "\n" not in str(caught.value)


def test_channels_of_three_maps(tmp_path):
    (tmp_path / "body.py").write_text(BODY.format("(4, 4, 4)"))
    build_body(config(tmp_path, "R-18-FPN", KEY, f"{tmp_path}/body.py:Body"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dict(enumerate(maps))", "gives dict, not a list of tensors"),
        ("maps[0]", "gives Tensor of shape (1, 4, 8, 8), not"),
        ("[None, *maps[1:]]", "gives a list of NoneType, Tensor, Tensor, not"),
        ("None", "gives NoneType, not"),
        ("maps[:2]", "gives maps [(1, 4, 8, 8), (1, 4, 4, 4)] with out_channels"),
    ],
)
def test_a_body_that_gives_no_list_of_maps(tmp_path, given, message):
    body = BODY.format("[4, 4, 4]").replace("return ", "maps = ") + f"        return {given}\n"
    (tmp_path / "body.py").write_text(body)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        build_body(config(tmp_path, "R-18-FPN", KEY, f"{tmp_path}/body.py:Body"))
    assert "; a body is" in str(caught.value) and "\n" not in str(caught.value)
