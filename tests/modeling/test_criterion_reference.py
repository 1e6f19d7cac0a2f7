"""Compares losses and gradients with the FCOS and DSLA releases, with configured heads."""

import pytest
import torch
from helpers_head import build_parts
from helpers_reference import flat, kept, read_arrays

from dynamic_atss.config.load import load_config
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.types import GroundTruth, Predictions

FCOS = {
    "CENTER_SAMPLING_RADIUS": 1.5,
    "NORM_REG_TARGETS": True,
    "CENTERNESS_ON_REG": True,
    "IOU_LOSS_TYPE": "giou",
}
OFF = {"INTERVAL_RELAXATION": False, "CORE_ZONE": False, "IOU_COUPLING": False}
DSLA = {
    "r50": {**OFF, "CLS_LOSS_WEIGHT": 2.0},
    "full": {"CLS_LOSS_WEIGHT": 2.0},
    "r101": {"CENTER_SAMPLING": True, "NORM_REG_TARGETS": True, "IOU_LOSS_TYPE": "giou"},
}


def parts_of(head, settings):
    overrides = [f"MODEL.{head}_ON", "True"]
    for key, value in settings.items():
        overrides += [f"MODEL.{head}.{key}", str(value)]
    cfg = load_config(None, overrides)
    return build_parts(cfg, 32, 80)


def truth(boxes, classes):
    image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    return GroundTruth(torch.cat(boxes), torch.cat(classes), image)


def test_fcos(golden_or_complete):
    arrays = read_arrays(golden_or_complete, "assign_fcos.npz")
    names = [f"case{i:02d}" for i in arrays["batch01_pair"].tolist()]
    gt = truth(
        [arrays[f"{n}_gt_boxes"] for n in names], [arrays[f"{n}_gt_labels"] - 1 for n in names]
    )
    parts = parts_of("FCOS", FCOS)
    sizes = tuple(map(tuple, arrays[f"{names[0]}_level_hw"].tolist()))
    priors = parts.priors(sizes, torch.device("cpu"))
    kinds = ("logits", "box_regression", "centerness")
    leaves = [arrays[f"batch01_{kind}"].clone().requires_grad_() for kind in kinds]
    output = HeadOutput(leaves[0], leaves[1], leaves[2].squeeze(-1), sizes)
    losses = parts.criterion(output, priors, gt).losses
    assert list(losses) == ["loss_cls", "loss_reg", "loss_centerness"]
    terms = torch.stack(list(losses.values())).double()
    torch.testing.assert_close(terms, arrays["batch01_losses_cls_reg_ctr"], rtol=1e-5, atol=0)
    sum(losses.values()).backward()
    for leaf, kind in zip(leaves, kinds, strict=True):
        name = f"batch01_grad_{kind}"
        found = kept(leaf.grad, arrays, name)
        torch.testing.assert_close(found, arrays[name], rtol=1e-3, atol=2e-7)


@pytest.mark.parametrize("setting", DSLA)
@pytest.mark.parametrize("case", ["l0", "l2"])
def test_dsla(golden_or_complete, case, setting):
    arrays = read_arrays(golden_or_complete, "dsla_targets.npz")
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    gt = truth(
        [arrays.get(f"{case}_gt_bboxes{n}", none[0]) for n in (0, 1)],
        [arrays.get(f"{case}_gt_labels{n}", none[1]) for n in (0, 1)],
    )
    parts = parts_of("DSLA", DSLA[setting])
    sizes = tuple(map(tuple, arrays[f"{case}_featmap_sizes"].tolist()))
    priors = parts.priors(sizes, torch.device("cpu"))
    logits = flat(arrays, f"{case}_cls").requires_grad_()
    # The release divided the r101 setting's distances by the stride, and did not multiply again.
    unit = priors.strides[:, None] if setting == "r101" else 1.0
    distances = (flat(arrays, f"{case}_reg_px") / unit).requires_grad_()
    losses = parts.criterion(HeadOutput(logits, distances, None, sizes), priors, gt).losses
    assert list(losses) == ["loss_cls", "loss_reg"]
    for name, wanted in (("loss_cls", "loss_cls"), ("loss_reg", "loss_bbox")):
        expected = arrays[f"{case}_{setting}_{wanted}"]
        torch.testing.assert_close(losses[name], expected, rtol=5e-6, atol=0)
    clear = ~ties(parts.criterion.assigner, priors, gt)
    assert (~clear).sum() <= arrays[f"{case}_{setting}_n_ambiguous"]
    for loss, leaf, name in (
        ("loss_cls", logits, "loss_cls_cls"),
        ("loss_reg", distances, "loss_bbox_reg"),
    ):
        [grad] = torch.autograd.grad(losses[loss], leaf, retain_graph=True)
        name = f"{case}_{setting}_g_{name}"
        found, sure = (kept(x, arrays, name) for x in (grad, clear))
        wanted = flat(arrays, name)
        torch.testing.assert_close(found[sure], wanted[sure], rtol=1e-4, atol=1e-7)


def ties(rule, priors, gt):
    """Flags points whose box depends on the order of the boxes, (N, P). The release may mix the
    class of one box with another box."""
    order = torch.arange(len(gt)).flip(0)
    turned = GroundTruth(gt.boxes[order], gt.classes[order], gt.image_index[order])
    predictions = Predictions(torch.zeros(2, len(priors), 4), torch.zeros(2, len(priors), 80))
    one, other = (rule(priors, boxes, predictions).gt_index for boxes in (gt, turned))
    back = torch.where(other >= 0, len(gt) - 1 - other, other)
    return one != back
