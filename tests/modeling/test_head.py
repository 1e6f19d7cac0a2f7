"""Tests the head: layout of its output, initial values, published names."""

import json
import math

import pytest
import torch
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.head import DenseHead, HeadOutput, branches_of, check_output
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.modeling.tower import tower
from dynamic_atss.types import Level, Priors

MAPS = ((3, 4), (2, 2), (1, 3))
CLASSES, ANCHORS, CHANNELS = 5, 3, 32


def make_head(**kwargs):
    return DenseHead(CHANNELS, CLASSES, num_levels=3, num_convs=1, **kwargs)


def make_features(images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, CHANNELS, h, w, generator=generator) for h, w in MAPS]


def test_the_order_of_the_output_is_that_of_the_priors():
    """There are no towers. Each convolution gives the centre of channel 0 + the index of its
    channel, so every value shows its origin."""
    head = make_head(per_location=ANCHORS)
    head.cls_tower = head.bbox_tower = nn.Identity()
    with torch.no_grad():
        for conv in (head.cls_logits, head.bbox_pred, head.quality):
            conv.weight.zero_()
            conv.weight[:, 0, 1, 1] = 1
            conv.bias.copy_(torch.arange(len(conv.bias)) * 10_000)
    features = [torch.zeros(2, CHANNELS, h, w) for h, w in MAPS]
    for n in range(2):
        for level, x in enumerate(features):
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    x[n, 0, row, column] = 1000 * n + 100 * level + 10 * row + column
    output = head(features)
    priors = AnchorGenerator((8, 16, 32), (64, 128, 256), (0.5, 1, 2))(MAPS, torch.device("cpu"))
    assert output.sizes == MAPS
    assert output.logits.shape == (2, len(priors), CLASSES)
    assert output.deltas.shape == (2, len(priors), 4)
    assert output.quality.shape == (2, len(priors))
    p = 0
    for level, lattice in enumerate(priors.levels):
        for row in range(lattice.height):
            for column in range(lattice.width):
                for anchor in range(ANCHORS):
                    for n in range(2):
                        place = 1000 * n + 100 * level + 10 * row + column
                        logits = [place + 10_000 * (anchor * CLASSES + c) for c in range(CLASSES)]
                        assert output.logits[n, p].tolist() == logits
                        deltas = [place + 10_000 * (anchor * 4 + c) for c in range(4)]
                        assert output.deltas[n, p].tolist() == deltas
                        assert output.quality[n, p].item() == place + 10_000 * anchor
                    p += 1
    assert p == len(priors)


def test_initial_values():
    head = make_head()
    assert head.cls_logits.bias.tolist() == pytest.approx([-math.log(99)] * CLASSES)
    assert head.cls_logits.bias.sigmoid().tolist() == pytest.approx([0.01] * CLASSES)
    assert (head.bbox_pred.bias == 0).all() and (head.quality.bias == 0).all()
    assert [s.scale.item() for s in head.scales] == [1, 1, 1]
    for name, parameter in head.named_parameters():
        if parameter.ndim == 4:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.15), name


def test_each_level_has_its_scale_and_only_for_boxes():
    head, features = make_head(), make_features()
    before = head(features)
    with torch.no_grad():
        head.scales[1].scale.fill_(3)
    after = head(features)
    parts = [12, 4, 3]
    for i, (a, b) in enumerate(
        zip(before.deltas.split(parts, 1), after.deltas.split(parts, 1), strict=True)
    ):
        torch.testing.assert_close(b, a * (3 if i == 1 else 1))
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.quality, after.quality)


def test_distances_are_not_negative_and_start_at_four():
    head = make_head(positive="relu", box_bias=4.0)
    assert head.bbox_pred.bias.tolist() == [4] * 4
    with torch.no_grad():
        head.bbox_pred.weight.mul_(1000)
    deltas = head(make_features()).deltas
    assert deltas.min() == 0
    assert deltas.max() > 4


def test_published_names_and_shapes(golden):
    releases = json.loads((golden / "release_state_dicts.json").read_text())
    for release, deformable in (("R_50_FPN_1x", False), ("dcnv2_R_50_FPN_1x", True)):
        entries = releases[f"dynamic_atss/dynamic_atss_{release}"]["state_dict"]
        prefix = "rpn.head."
        published = {
            name[len(prefix) :]: tuple(shape)
            for name, shape, _ in entries
            if name.startswith(prefix)
        }
        head = DenseHead(256, 80, deformable_last=deformable)
        ours = {
            name.replace("quality", "centerness"): tuple(value.shape)
            for name, value in head.state_dict().items()
        }
        assert ours == published, release


def test_output_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        output = make_head()(make_features())
    assert {x.dtype for x in output[:3]} == {torch.float32}


def test_a_deformable_tower_starts_as_a_plain_one_at_half_strength():
    """Offsets start at 0, and the mask at sigmoid(0)."""
    torch.manual_seed(0)
    layers = tower(CHANNELS, 1, deformable_last=True)
    x = torch.randn(1, CHANNELS, 6, 6)
    plain = nn.functional.conv2d(x, layers[0].conv.weight, padding=1) * 0.5
    plain = plain + layers[0].conv.bias[:, None, None]
    torch.testing.assert_close(layers[0](x), plain, rtol=1e-4, atol=1e-5)


def test_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="48 channels"):
        tower(48, 1)


@pytest.mark.parametrize("tower", ["box", "class"])
def test_which_tower_the_quality_stands_on(tower):
    head, features = make_head(quality=tower), make_features()
    silenced = {"box": head.bbox_tower, "class": head.cls_tower}[tower]
    before = head(features)
    with torch.no_grad():
        for parameter in silenced.parameters():
            parameter.zero_()
    after = head(features)
    assert not torch.equal(before.quality, after.quality)
    assert (after.quality == 0).all()


def test_distances_by_exp_stay_finite():
    head, features = make_head(positive="exp"), make_features()
    assert (head(features).deltas > 0).all()
    with torch.no_grad():
        head.bbox_pred.bias.fill_(1e4)
    assert head(features).deltas.isfinite().all()


def test_a_head_without_norm_scales_and_quality():
    """RetinaNet's head has the names of its published checkpoints."""
    head = make_head(norm=False, scales=False, quality=None)
    names = {name.rpartition(".")[0] for name in head.state_dict()}
    assert names == {"cls_tower.0", "bbox_tower.0", "cls_logits", "bbox_pred"}
    output = head(make_features())
    assert output.quality is None and output.logits.isfinite().all()


def test_one_place_and_one_image_train():
    """A group norm of one value would have no variance."""
    head = make_head().train()
    assert head([torch.randn(1, CHANNELS, 1, 1)] * 3).logits.isfinite().all()


@pytest.mark.parametrize("wrong", ["logits", "deltas", "quality"])
def test_an_output_that_does_not_fit_the_priors_is_one_line(wrong):
    priors = Priors(torch.zeros(6, 4), (Level(2, 3, 8),))
    fits = HeadOutput(torch.zeros(2, 6, 3), torch.zeros(2, 6, 4), torch.zeros(2, 6), ((2, 3),))
    head = nn.Identity()
    check_output(head, fits, 2, priors)
    check_output(head, fits._replace(quality=None), 2, priors)
    short = getattr(fits, wrong)[:, :5]
    for bad in (short, None if wrong != "quality" else short, getattr(fits, wrong)[0]):
        verb = "has" if wrong == "quality" else "have"
        with pytest.raises(UserError, match=rf"Identity .*NAME\): its {wrong} {verb} sh") as caught:
            check_output(head, fits._replace(**{wrong: bad}), 2, priors)
        assert "\n" not in str(caught.value)


def test_a_head_that_gives_something_else_is_one_line():
    fits = HeadOutput(torch.zeros(2, 6, 3), torch.zeros(2, 6, 4), None, ((2, 3),))
    assert branches_of(nn.Identity(), fits) == [fits]
    assert branches_of(nn.Identity(), {"a": fits, "b": fits}) == [fits, fits]
    for wrong, message in (
        (tuple(fits), "tuple in place of its output"),
        (None, "NoneType in place of its output"),
        ({"a": fits, "b": fits.logits}, "Tensor in its dict"),
        ({}, "nothing in its dict"),
    ):
        with pytest.raises(
            UserError, match=rf"Identity \(MODEL.HEAD.NAME\): gives {message};"
        ) as err:
            branches_of(nn.Identity(), wrong)
        assert "\n" not in str(err.value)
