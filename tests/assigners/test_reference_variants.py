"""Compares labels and targets with the released FCOS and the released ATSS's positive types."""

import pytest
import torch
from helpers_reference import DEVICES, assigned, read_arrays

from dynamic_atss.assigners.rules.fcos import FCOS
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.assigners.rules.topk import TopK
from dynamic_atss.boxes import BoxConvention, centers, sides
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import IGNORE, GroundTruth, Predictions

CASES = ["case00", "case01", "case06", "case08", "case09"]
STRIDES = (8, 16, 32, 64, 128)
ANCHORS = AnchorGenerator(STRIDES, (64, 128, 256, 512, 1024))
POINTS = PointGenerator(STRIDES)
CLOSE = {"rtol": 1e-5, "atol": 5e-6}


@pytest.fixture(scope="module")
def fcos(golden):
    return read_arrays(golden, "assign_fcos.npz")


@pytest.fixture(scope="module")
def atss(golden):
    return read_arrays(golden, "assign_atss.npz")


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def assign(rule, generator, arrays, case, device):
    """Gives priors, labels (P,) as in the files, and gt box and quality of each positive."""
    sizes = tuple(map(tuple, arrays[f"{case}_level_hw"].tolist()))
    priors = generator(sizes, torch.device("cpu"))
    boxes, classes = arrays[f"{case}_gt_boxes"], arrays[f"{case}_gt_labels"] - 1
    gt = GroundTruth(boxes, classes, torch.zeros_like(classes))
    predictions = Predictions(priors.boxes[None], torch.zeros(1, len(priors), 80))
    result = assigned(rule, priors, gt, predictions, device)
    index, positive = result.gt_index[0], result.positive[0]
    labels = torch.where(positive, gt.classes[index.clamp(min=0)] + 1, 0)
    labels = torch.where(index == IGNORE, -1, labels)
    assert positive.any()
    return priors, labels, boxes[index[positive]], result.quality[0, positive]


@pytest.mark.parametrize("variant", ["", "plain_"])
@pytest.mark.parametrize("case", CASES)
def test_fcos(fcos, case, variant, device):
    """Targets are in strides with centre sampling, and in pixels without."""
    rule = FCOS() if variant else FCOS(radius=1.5)
    priors, labels, boxes, quality = assign(rule, POINTS, fcos, case, device)
    assert torch.equal(priors.centers, fcos[f"{case}_locations"])
    assert torch.equal(labels, fcos[f"{case}_{variant}labels"])
    positive = labels > 0
    targets = sides(priors.centers[positive], boxes)
    if not variant:
        targets = targets / priors.strides[positive, None]
    expected = fcos[f"{case}_{variant}reg_targets"][positive]
    torch.testing.assert_close(targets, expected, **CLOSE)
    expected = fcos[f"{case}_{variant}centerness_targets_of_positives"]
    torch.testing.assert_close(quality, expected, **CLOSE)


@pytest.mark.parametrize(
    "kind, rule",
    [("SSC", FCOS(margin=0.01)), ("TOPK", TopK()), ("IoU", MaxIoU(inside_only=True))],
    ids=["SSC", "TOPK", "IoU"],
)
@pytest.mark.parametrize("case", CASES)
def test_positive_types_of_atss(atss, case, kind, rule, device):
    priors, labels, boxes, quality = assign(rule, ANCHORS, atss, case, device)
    assert torch.equal(priors.boxes, atss[f"{case}_anchors"])
    clear = ~near_the_last(priors.boxes, atss[f"{case}_gt_boxes"], k=9 if kind == "TOPK" else 0)
    assert (~clear).sum() <= 16
    assert torch.equal(labels[clear], atss[f"{case}_{kind}_labels"].long()[clear])
    assert (labels == -1).any() == (kind == "IoU")
    positive = (labels > 0) & clear
    boxes, quality = boxes[clear[labels > 0]], quality[clear[labels > 0]]
    targets = DeltaCoder().encode(boxes, priors.boxes[positive])
    expected = atss[f"{case}_{kind}_reg_targets"][positive]
    torch.testing.assert_close(targets, expected, **CLOSE)
    # The release's quality is the centerness of the box decoded from its targets.
    matched = DeltaCoder().decode(expected, priors.boxes[positive])
    left, top, right, bottom = sides(priors.centers[positive], matched).unbind(-1)
    ratio = torch.minimum(left, right) * torch.minimum(top, bottom)
    ratio = ratio / (torch.maximum(left, right) * torch.maximum(top, bottom))
    torch.testing.assert_close(quality, ratio.sqrt(), rtol=1e-4, atol=1e-4)


def near_the_last(anchors, boxes, k):
    """Flags the anchors that nearly tie with the k-th of some box, (P,). The rounding of a square
    root decides which one is taken. Equal scores go by index."""
    anchors, boxes = anchors.double(), boxes.double()
    away = (centers(anchors)[:, None] - centers(boxes)).norm(dim=-1)
    score = BoxConvention.LEGACY.iou(anchors[:, None], boxes) - away / away.max() / 1000
    last = score.topk(max(k, 1), dim=0).values[-1]
    near = ((score - last).abs() < 5e-7) & (k > 0)
    return (near & ((score != last) & near).any(0)).any(1)


@pytest.mark.parametrize("case", CASES)
def test_point_targets_of_atss(atss, case, device):
    """The release's POINT targets are distances in eighths of the anchor. The files have them for
    every positive of ATSS. The other positive types have the same targets."""
    priors, labels, boxes, _ = assign(TopK(), ANCHORS, atss, case, device)
    both = (labels > 0) & (labels == atss[f"{case}_labels"])
    assert both.any()
    pixels = sides(priors.centers[labels > 0], boxes)[both[labels > 0]]
    expected = atss[f"{case}_POINT_reg_targets"][both]
    torch.testing.assert_close(pixels / priors.strides[both, None], expected, **CLOSE)
