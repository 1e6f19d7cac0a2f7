"""Compares labels, targets, losses and gradients with the published releases on every prior."""

import pytest
import torch
from helpers_reference import DEVICES, assigned, kept, read_arrays

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.criterion import Criterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, to_device

FILES = {"dynamic_atss": "assign_dynamic.npz", "atss": "assign_atss.npz"}
CASES = ["case00", "case01", "case06", "case08", "case09"]
ANCHORS = AnchorGenerator((8, 16, 32, 64, 128), (64, 128, 256, 512, 1024))


@pytest.fixture(scope="module", params=FILES)
def reference(request, golden):
    """Gives the rule and its reference arrays as tensors."""
    return request.param, read_arrays(golden, FILES[request.param])


def priors_of(arrays, case):
    sizes = tuple(map(tuple, arrays[f"{case}_level_hw"].tolist()))
    return ANCHORS(sizes, torch.device("cpu"))


def truth_of(arrays, *cases):
    boxes = [arrays[f"{case}_gt_boxes"] for case in cases]
    classes = torch.cat([arrays[f"{case}_gt_labels"] for case in cases]) - 1
    image = torch.arange(len(cases)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    return GroundTruth(torch.cat(boxes), classes, image)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_labels_and_targets(reference, case, device):
    rule, arrays = reference
    priors, gt = priors_of(arrays, case), truth_of(arrays, case)
    assert torch.equal(priors.boxes, arrays[f"{case}_anchors"])
    boxes = priors.boxes
    if rule == "dynamic_atss":
        boxes = DeltaCoder().decode(arrays[f"{case}_box_regression"], priors.boxes)
        torch.testing.assert_close(boxes, arrays[f"{case}_decoded"], rtol=1e-6, atol=1e-4)
    predictions = Predictions(boxes[None], torch.zeros(1, len(priors), 80))
    result = assigned(ASSIGNERS[rule](), priors, gt, predictions, device)

    index, positive, quality = result.gt_index[0], result.positive[0], result.quality[0]
    labels = torch.where(positive, gt.classes[index.clamp(min=0)] + 1, 0)
    # All IoUs of these files differ from the thresholds by over 8e-4, so rounding changes no label.
    assert torch.equal(labels, arrays[f"{case}_labels"])
    matched, at = gt.boxes[index[positive]], priors.boxes[positive]
    close = {"rtol": 1e-5, "atol": 5e-6}
    expected = arrays[f"{case}_reg_targets"][positive]
    torch.testing.assert_close(DeltaCoder().encode(matched, at), expected, **close)
    if rule == "dynamic_atss":
        expected = arrays[f"{case}_iou_scores"][positive]
    else:
        points = arrays[f"{case}_POINT_reg_targets"][positive]
        torch.testing.assert_close(DistanceCoder(8).encode(matched, at), points, **close)
        expected = arrays[f"{case}_centerness_targets_of_positives"]
    torch.testing.assert_close(quality[positive], expected, **close)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rule", FILES)
def test_batch_losses_and_gradients(golden_or_complete, rule, device):
    arrays = read_arrays(golden_or_complete, FILES[rule])
    names = [f"case{i:02d}" for i in arrays["batch01_pair"].tolist()]
    priors, gt = priors_of(arrays, names[0]), truth_of(arrays, *names)
    inputs = [
        arrays[f"batch01_{name}"].clone().requires_grad_()
        for name in ("logits", "box_regression", "centerness")
    ]
    sizes = tuple((level.height, level.width) for level in priors.levels)
    logits, deltas, quality = (x.to(device) for x in inputs)
    output = HeadOutput(logits, deltas, quality.squeeze(-1), sizes)
    losses = Criterion(ASSIGNERS[rule](), DeltaCoder(), lambda totals: totals)(
        output, to_device(priors, device), to_device(gt, device)
    ).losses
    third = {"dynamic_atss": "loss_IoU", "atss": "loss_centerness"}[rule]
    assert list(losses) == ["loss_cls", "loss_reg", third]
    terms = torch.stack(list(losses.values())).double().cpu()
    expected = arrays["batch01_losses_cls_reg_ctr"]  # these are sums of a million logarithms
    torch.testing.assert_close(terms, expected, rtol=5e-6, atol=0)
    sum(losses.values()).backward()
    for leaf, name in zip(inputs, ("logits", "box_regression", "centerness"), strict=True):
        name = f"batch01_grad_{name}"
        found = kept(leaf.grad, arrays, name)
        torch.testing.assert_close(found, arrays[name], rtol=2e-5, atol=5e-8)
