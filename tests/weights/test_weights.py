"""Loads weight files of every format: exact names, completely or not at all, no code run."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from dynamic_atss.engine.checkpoint import save_checkpoint
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN
from dynamic_atss.weights import from_published, load_weights, to_published

RELEASES = Path(__file__).parents[1] / "golden/release_state_dicts.json"
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SMALL = {"stem_out": 4, "width_per_group": 2, "res2_out": 8}
DCN = (False, True, True, True)


class _Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def _model(depth=50, classes=5, seed=0, **body):
    """Makes a small detector with the names of a complete one."""
    torch.manual_seed(seed)
    resnet = ResNet(depth, **{**(SMALL if depth in BLOCKS else {}), **body})
    head = nn.Module()
    for branch in ("cls_tower", "bbox_tower"):
        head.add_module(branch, nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(8, 8), nn.ReLU()))
    for name, channels in (("cls_logits", classes), ("bbox_pred", 4), ("quality", 1)):
        head.add_module(name, nn.Conv2d(8, channels, 3))
    head.scales = nn.ModuleList(_Scale() for _ in range(5))
    model = nn.Module()
    model.backbone = BackboneWithFPN(resnet, FPN(resnet.out_channels, 8))
    model.head = head
    return model


def _copy(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def _caffe2(depth, norm="bn", **body):
    """Makes blobs with the names of Caffe2 files; returns them and the same values by our names."""
    shapes = {k: v.shape for k, v in ResNet(depth, **SMALL, **body).state_dict().items()}
    rng = np.random.default_rng(0)
    blobs, ours = {}, {}

    def add(blob, name):
        blobs[blob] = rng.random(shapes[name], dtype=np.float32)
        ours["backbone.body." + name] = torch.from_numpy(blobs[blob])

    def unit(blob, affine, conv, bn):
        add(f"{blob}_w", f"{conv}.weight")
        add(f"{affine}_{norm}_s", f"{bn}.weight")
        add(f"{affine}_{norm}_b", f"{bn}.bias")

    unit("conv1", "res_conv1" if norm == "bn" else "conv1", "stem.conv1", "stem.bn1")
    for stage, count in enumerate(BLOCKS[depth], start=2):
        for i in range(count):
            at, to = f"res{stage}_{i}_branch", f"layer{stage - 1}.{i}"
            if i == 0:
                unit(at + "1", at + "1", f"{to}.downsample.0", f"{to}.downsample.1")
            for n, letter in enumerate("abc", start=1):
                unit(at + "2" + letter, at + "2" + letter, f"{to}.conv{n}", f"{to}.bn{n}")
    return blobs, ours


UNUSED = {
    "fc1000_w": np.zeros((2, 2), np.float32),
    "pred_b": np.zeros(2, np.float32),
    "conv1_b": np.zeros(4, np.float32),
    "res2_0_branch2a_b": np.ones(2, np.float32),
    "conv1_w_momentum": np.zeros((4, 3, 7, 7), np.float32),
    "weight_order": "a b c",
}


def _dump(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("flat", [True, False])
def test_caffe2_fills_the_body_exactly(tmp_path, protocol, flat):
    blobs, ours = _caffe2(50)
    assert len(blobs) == 159
    content = {**UNUSED, **blobs}
    path = _dump(tmp_path / "R-50.pkl", content if flat else {"blobs": content}, protocol)
    model = _model()
    before = _copy(model)
    report = load_weights(model, path)
    assert sorted(report.loaded) == sorted(ours) and sorted(report.unused) == sorted(UNUSED)
    for name, value in model.state_dict().items():
        assert value.equal(ours.get(name, before[name])), name
    statistics = [n for n in report.initial if ".running_" in n]
    assert len(statistics) == 106
    assert not any("body" in n for n in set(report.initial) - set(statistics))
    assert "backbone.body 159" in report.summary() and len(report.summary().splitlines()) <= 5


@pytest.mark.parametrize("norm", ["BN", "SyncBN"])
def test_caffe2_fills_a_body_whose_norms_learn(tmp_path, norm):
    blobs, ours = _caffe2(50)
    model = _model(norm=norm)
    assert len(load_weights(model, _dump(tmp_path / "x.pkl", blobs)).loaded) == 159
    assert all(model.state_dict()[name].equal(value) for name, value in ours.items())


def test_caffe2_group_norm_and_batch_norm_are_not_mixed(tmp_path):
    blobs, ours = _caffe2(50, norm="gn")
    path = _dump(tmp_path / "R-50-GN.pkl", blobs)
    model = _model(norm="GN")
    load_weights(model, path)
    assert all(model.state_dict()[name].equal(value) for name, value in ours.items())
    with pytest.raises(UserError, match="GroupNorm"):
        load_weights(_model(), path)
    with pytest.raises(UserError, match="GroupNorm"):
        load_weights(model, _dump(tmp_path / "R-50.pkl", _caffe2(50)[0]))


def test_plain_conv2_fills_the_deformable_conv_with_a_note(tmp_path):
    blobs, ours = _caffe2(50)
    model = _model(deformable=DCN)
    report = load_weights(model, _dump(tmp_path / "x.pkl", blobs))
    state = model.state_dict()
    assert state["backbone.body.layer3.5.conv2.conv.weight"].equal(
        ours["backbone.body.layer3.5.conv2.weight"]
    )
    assert state["backbone.body.layer1.0.conv2.weight"].equal(
        ours["backbone.body.layer1.0.conv2.weight"]
    )
    assert state["backbone.body.layer3.5.conv2.offset.weight"].count_nonzero() == 0
    assert any(note.startswith("13 plain") for note in report.notes)
    assert sum(".offset." in n for n in report.initial) == 26


@pytest.mark.parametrize(
    ("file", "model", "entry"),
    [(101, 50, "res4_6_branch2a_w"), (50, 101, r"backbone\.body\.layer3\.6\.conv1\.weight")],
)
def test_another_depth_is_a_wrong_architecture(tmp_path, file, model, entry):
    path = _dump(tmp_path / "x.pkl", _caffe2(file)[0])
    target = _model(model)
    before = _copy(target)
    with pytest.raises(UserError, match=f"wrong architecture.*{entry}"):
        load_weights(target, path)
    assert all(v.equal(before[k]) for k, v in target.state_dict().items())


def test_the_fpn_of_detectron_is_loaded_with_the_body(tmp_path):
    """Loads P3 to P5 of a model that Detectron trained; not P2, its extra levels or its head."""
    model = _model()
    blobs, ours = _caffe2(50)
    rng, state = np.random.default_rng(1), _copy(model)
    last = {2: "res2_2", 3: "res3_3", 4: "res4_5", 5: "res5_2"}
    for stage, block in last.items():
        lateral = "" if stage == 5 else "_lateral"
        for blob, kind in (
            (f"fpn_inner_{block}_sum{lateral}", "inner"),
            (f"fpn_{block}_sum", "layer"),
        ):
            for end, entry in (("w", "weight"), ("b", "bias")):
                name = f"backbone.fpn.fpn_{kind}{stage - 1}.{entry}"
                shape = state[name].shape if name in state else (8, 8, 1, 1)
                blobs[f"{blob}_{end}"] = rng.random(shape, dtype=np.float32)
                if name in state:
                    ours[name] = torch.from_numpy(blobs[f"{blob}_{end}"])
    others = ("fpn_6_w", "retnet_cls_conv_n0_fpn3_w")
    blobs |= {name: np.zeros((8, 8, 3, 3), np.float32) for name in others}
    report = load_weights(model, _dump(tmp_path / "x.pkl", blobs))
    assert sum("fpn" in name for name in report.loaded) == 12
    assert sorted(report.loaded) == sorted(ours)
    unused = {f"fpn_{x}_{end}" for x in ("inner_res2_2_sum_lateral", "res2_2_sum") for end in "wb"}
    assert set(report.unused) == {*others, *unused}
    for name, value in model.state_dict().items():
        assert value.equal(ours.get(name, state[name])), name


def test_missing_and_misshapen_blobs(tmp_path):
    blobs, _ = _caffe2(50)
    less = {k: v for k, v in blobs.items() if k != "res3_2_branch2b_w"}
    with pytest.raises(UserError, match=r"layer2\.2\.conv2\.weight is not in the file"):
        load_weights(_model(), _dump(tmp_path / "x.pkl", less))
    more = {**blobs, "res3_2_branch2b_w": np.zeros((4, 5, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"res3_2_branch2b_w is \(4, 5, 3, 3\)"):
        load_weights(_model(), _dump(tmp_path / "x.pkl", more))


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_torchvision_gives_the_same_features(tmp_path, name):
    torch.manual_seed(1)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # a small variance, so that the epsilon matters
            module.running_var.uniform_(1e-4, 1)
            module.running_mean.normal_(0, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    wide = {"stem_out": 64, "res2_out": 256}
    sizes = {**wide, "num_groups": 32, "width_per_group": 4} if "50" in name else {}
    model = _model(18 if name == "resnet18" else 50, stride_in_1x1=False, **sizes)
    report = load_weights(model, tmp_path / "tv.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        y = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        for layer, got in zip(("layer2", "layer3", "layer4"), model.backbone.body(x), strict=True):
            y = getattr(theirs, layer)(y)
            torch.testing.assert_close(got, y, rtol=1e-4, atol=1e-4 * y.abs().max().item())
    assert "fc.weight" in report.unused and "RGB" in report.summary()
    assert not any("WARNING" in note for note in report.notes)


def test_torchvision_into_the_msra_stride_warns(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "tv.pth")
    assert any("STRIDE_IN_1X1" in n for n in load_weights(_model(18), tmp_path / "tv.pth").notes)
    with pytest.raises(UserError, match=r"layer1\.2\.conv1\.weight is not in the file"):
        load_weights(_model(34), tmp_path / "tv.pth")
    with pytest.raises(UserError, match="wrong architecture"):
        load_weights(_model(18, norm="GN"), tmp_path / "tv.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoint_of_any_age(tmp_path, zipped, prefix):
    source = _model(seed=1, deformable=DCN)
    state = {prefix + k: v for k, v in to_published(source.state_dict()).items()}
    state[f"{prefix}rpn.anchor_generator.cell_anchors.0"] = torch.zeros(1, 4)
    content = {"model": state, "iteration": 90000} if prefix else state
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = _model(deformable=DCN)
    report = load_weights(model, path, allow_new_classes=False)
    for name, value in source.state_dict().items():
        assert model.state_dict()[name].equal(value), name
    assert report.initial == [] and report.unused == [
        f"{prefix}rpn.anchor_generator.cell_anchors.0"
    ]


def test_a_file_without_checksums_gets_a_note_with_its_digest(tmp_path):
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save(_model().state_dict(), path, _use_new_zipfile_serialization=zipped)
        notes = [n for n in load_weights(_model(), path).notes if "no checksum" in n]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert notes == [] if zipped else notes[0].endswith(digest), notes


def test_our_checkpoint_and_batch_norm_into_frozen(tmp_path):
    source = _model(18, seed=1, norm="BN").eval()
    save_checkpoint(tmp_path / "x.pth", {"model": source.state_dict(), "iteration": 3})
    same = _model(18, norm="BN").eval()
    report = load_weights(same, tmp_path / "x.pth")
    assert report.initial == [] and report.unused == []
    frozen = _model(18, norm="FrozenBN")
    load_weights(frozen, tmp_path / "x.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(frozen.backbone(x), source.backbone(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_frozen_norms_into_batch_norm(tmp_path):
    """Subtracts batch norm's epsilon from the variances of published frozen norms."""
    source = _model(18, seed=1)
    for name, value in source.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(1e-4, 1e-3)
    torch.save({"model": to_published(source.state_dict())}, tmp_path / "x.pth")
    trained = _model(18, norm="BN").eval()
    load_weights(trained, tmp_path / "x.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for got, want in zip(trained.backbone(x), source.backbone(x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_another_number_of_classes(tmp_path):
    source = _model(seed=1, classes=5)
    torch.save(to_published(source.state_dict()), tmp_path / "x.pth")
    model = _model(classes=3)
    before = _copy(model)
    report = load_weights(model, tmp_path / "x.pth")
    assert report.initial == ["head.cls_logits.weight", "head.cls_logits.bias"]
    assert model.head.cls_logits.weight.equal(before["head.cls_logits.weight"])
    assert model.head.quality.weight.equal(source.head.quality.weight)
    with pytest.raises(UserError, match="NUM_CLASSES"):
        load_weights(model, tmp_path / "x.pth", allow_new_classes=False)


@pytest.mark.parametrize("damage", ["missing", "more", "offsets", "shape"])
def test_wrong_architecture_of_a_detector(tmp_path, damage):
    body = {"deformable": DCN} if damage == "offsets" else {}
    state = to_published(_model(**body).state_dict())
    if damage == "missing":
        del state["rpn.head.centerness.bias"]
    elif damage == "more":
        state["rpn.head.cls_tower.9.weight"] = torch.zeros(1)
    elif damage == "shape":
        state["rpn.head.bbox_pred.bias"] = torch.zeros(36)
    torch.save(state, tmp_path / "x.pth")
    entry = {
        "missing": r"head\.quality\.bias",
        "more": r"cls_tower\.9\.weight",
        "offsets": r"layer2\.0\.conv2\.offset\.weight",
        "shape": r"bbox_pred\.bias is \(36,\)",
    }[damage]
    with pytest.raises(UserError, match=f"wrong architecture.*{entry}"):
        load_weights(_model(), tmp_path / "x.pth")


def test_published_names_there_and_back():
    for release in json.loads(RELEASES.read_text()).values():
        state = {name: torch.zeros(0) for name, _, _ in release["state_dict"]}
        ours = from_published({"module." + name: value for name, value in state.items()})
        kept = [name for name in state if "anchor_generator" not in name]
        assert list(to_published(ours)) == kept
        assert all(name.startswith(("backbone.", "head.")) for name in ours)
    assert from_published({"rpn.head.centerness.bias": 1}) == {"head.quality.bias": 1}


def test_unknown_content_is_refused(tmp_path):
    model = _model()
    for content in ({"backbone.conv1.weight": torch.zeros(1)}, {}, [torch.zeros(1)], {"a": 3}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(UserError, match=r"x\.pth"):
            load_weights(model, tmp_path / "x.pth")
    with pytest.raises(UserError, match="no such weight file"):
        load_weights(model, tmp_path / "absent.pth")
