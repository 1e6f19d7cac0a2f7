"""Tests box terms by name, and a custom term: a distribution over distances."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.boxes import giou, iou, sides
from dynamic_atss.errors import UserError
from dynamic_atss.losses import giou_loss
from dynamic_atss.modeling.box_terms import BOX_LOSSES, IoU, SmoothL1
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.criterion import Criterion, RetinaNetCriterion
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.types import Batch, GroundTruth, Predictions

MAPS = ((8, 8), (4, 4))
PRIORS = AnchorGenerator((8, 16), (64, 128))(MAPS, torch.device("cpu"))
P = len(PRIORS)
FORMS = {
    "giou": lambda a, b: 1 - giou(a, b),
    "iou": lambda a, b: -iou(a, b).log(),
    "linear_iou": lambda a, b: 1 - iou(a, b),
}


def boxes_and_targets():
    torch.manual_seed(0)
    corner, size = torch.rand(2, P, 2) * 20, torch.rand(2, P, 2) * 30 + 30
    boxes = torch.cat((corner, corner + size), dim=-1)
    return boxes, boxes + torch.rand(2, P, 4) * 8


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_terms_by_name(name):
    boxes, targets = boxes_and_targets()
    weight = torch.rand(2, P)
    found = BOX_LOSSES[name](torch.zeros(2, P, 4), boxes, targets, weight, PRIORS)
    assert list(found) == ["loss_reg"]
    wanted = (weight * FORMS[name](boxes, targets)).sum()
    torch.testing.assert_close(found["loss_reg"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("area", "stride"), [("pixels", 1.0), ("strides", 8.0)])
def test_an_area_of_one_in_pixels_or_in_strides(area, stride):
    """The first prior has stride 8, and its box 20 x 20 lies in 20 x 40."""
    boxes = torch.zeros(1, P, 4)
    targets = torch.zeros(1, P, 4)
    boxes[0, 0], targets[0, 0] = torch.tensor([0.0, 0, 20, 20]), torch.tensor([0.0, 0, 20, 40])
    weight = torch.zeros(1, P)
    weight[0, 0] = 1.0
    found = IoU("linear_iou", area)(boxes, boxes, targets, weight, PRIORS)["loss_reg"]
    assert found.item() == pytest.approx(1 - (400 + stride**2) / (800 + stride**2), rel=1e-5)


def test_an_unknown_area():
    with pytest.raises(ValueError, match=r"area is 'inches'; it must be one of"):
        IoU("iou", "inches")


def test_smooth_l1_is_of_the_deltas_of_positives():
    boxes, targets = boxes_and_targets()
    raw, weight = torch.randn(2, P, 4), torch.zeros(2, P)
    weight[1, 4] = 0.5
    found = SmoothL1(DeltaCoder(), 0.11)(raw, boxes, targets, weight, PRIORS)["loss_reg"]
    wanted = DeltaCoder().encode(targets[1, 4], PRIORS.boxes[4])
    torch.testing.assert_close(
        found, 0.5 * F.smooth_l1_loss(raw[1, 4], wanted, beta=0.11, reduction="sum")
    )


GT = GroundTruth(
    torch.tensor([[4.0, 4, 40, 50], [10, 20, 60, 60]]), torch.tensor([0, 2]), torch.tensor([0, 1])
)


def test_another_term_in_the_criterion_of_retinanet():
    torch.manual_seed(0)
    output = HeadOutput(torch.randn(2, P, 3), torch.zeros(2, P, 4), None, MAPS)
    rule = ASSIGNERS["atss"]()
    found = RetinaNetCriterion(
        rule, DeltaCoder(), lambda x: x, box_loss=BOX_LOSSES["giou"], divisor=1.0
    )(output, PRIORS, GT)
    positives = found.metrics["positives"] * 2
    matched = rule(PRIORS, GT, _seen(output))
    n, p = matched.positive.nonzero().unbind(1)
    wanted = giou_loss(PRIORS.boxes[p], GT.boxes[matched.gt_index[n, p]], torch.ones(len(p)))
    loss = found.losses["loss_retina_reg"]
    torch.testing.assert_close(loss, wanted / positives, rtol=1e-4, atol=0)


def _seen(output):
    return Predictions(PRIORS.boxes.expand(2, P, 4), output.logits)


def test_a_term_whose_name_is_no_loss_is_refused():
    def term(*_):
        return {"dfl": torch.zeros(())}

    output = HeadOutput(torch.randn(2, P, 3), torch.zeros(2, P, 4), None, MAPS)
    criterion = Criterion(ASSIGNERS["atss"](), DeltaCoder(), lambda x: x, box_loss=term)
    with pytest.raises(UserError, match=r"loss term 'dfl': its name must begin with 'loss_'"):
        Terms.of(criterion(output, PRIORS, GT))


@pytest.mark.parametrize("kind", [Criterion, RetinaNetCriterion])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (torch.zeros(()), "the box loss returns a Tensor; a dict"),
        (None, "the box loss returns a NoneType; a dict"),
        ({}, "the box loss returns an empty dict; a dict"),
        ({"loss_reg": 0.5}, "the box loss returns a float as 'loss_reg'"),
        ({"loss_reg": torch.zeros(2, P)}, r"returns a Tensor of shape \(2, 80\) as 'loss_reg'"),
        ({3: torch.zeros(())}, r"returns a Tensor of shape \(\) as 3"),
        (
            {"loss_cls": torch.zeros(())},
            "the box loss returns 'loss_cls', a name that the criterion already uses",
        ),
    ],
)
def test_a_term_that_gives_something_else_is_one_line(kind, found, words):
    output = HeadOutput(torch.randn(2, P, 3), torch.zeros(2, P, 4), None, MAPS)
    criterion = kind(ASSIGNERS["atss"](), DeltaCoder(), lambda x: x, box_loss=lambda *_: found)
    with pytest.raises(UserError, match=words) as caught:
        criterion(output, PRIORS, GT)
    assert "\n" not in str(caught.value)


def test_a_term_of_the_name_of_the_quality_loss_is_refused():
    output = HeadOutput(torch.randn(2, P, 3), torch.zeros(2, P, 4), torch.zeros(2, P), MAPS)
    found = {"loss_centerness": torch.zeros(())}
    rule = ASSIGNERS["atss"]()
    criterion = Criterion(rule, DeltaCoder(), lambda x: x, box_loss=lambda *_: found)
    with pytest.raises(UserError, match="quality branch returns 'loss_centerness', a name that"):
        criterion(output, PRIORS, GT)


# --- a custom distribution over distances -------------------------------------------------------

BINS = 8  # distances 0..7, in strides


class Distribution:
    """Decodes logits (..., 4 * BINS) to mean distances, and these to boxes."""

    def __init__(self):
        self.distances = DistanceCoder(1.0)

    def decode(self, raw, priors):
        chances = raw.unflatten(-1, (4, BINS)).softmax(-1)
        return self.distances.decode(chances @ torch.arange(float(BINS)), priors)


def focal_of_distribution(raw, decoded, targets, weight, priors):
    """Adds the cross-entropy of the two bins around each true distance to the IoU loss."""
    wanted = sides(priors.centers, targets) / priors.strides[:, None]
    wanted = wanted.clamp(0, BINS - 1 - 1e-3)
    low = wanted.floor()
    chances = raw.unflatten(-1, (4, BINS)).log_softmax(-1)

    def of(bins):
        return -chances.gather(-1, bins.long()[..., None])[..., 0]

    spread = ((low + 1 - wanted) * of(low) + (wanted - low) * of(low + 1)).mean(-1)
    return {"loss_reg": giou_loss(decoded, targets, weight), "loss_dfl": (weight * spread).sum()}


class TinyHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(16, 3 + 4 * BINS, 3, padding=1)

    def forward(self, features):
        flat = torch.cat([self.maps(x).flatten(2).transpose(1, 2) for x in features], dim=1)
        sizes = tuple(x.shape[2:] for x in features)
        return HeadOutput(flat[..., :3], flat[..., 3:], None, sizes)


class TinyBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 8, stride=8)
        self.second = nn.Conv2d(16, 16, 2, stride=2)

    def forward(self, images):
        first = self.first(images / 50).relu()
        return [first, self.second(first).relu()]


def test_a_distribution_over_distances_is_a_coder_and_a_term():
    torch.manual_seed(0)
    coder, rule = Distribution(), ASSIGNERS["fcos"]()
    detector = Detector(
        TinyBackbone(),
        TinyHead(),
        PointGenerator((8, 16)),
        Criterion(rule, coder, lambda x: x, box_loss=focal_of_distribution),
        PostProcess(coder),
        pixel_mean=(103.0, 116.0, 123.0),
        pixel_std=(1.0, 1.0, 1.0),
    )
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    batch = Batch(images, torch.tensor([[64, 64]] * 2), GT, (0, 1), ((64, 64),) * 2)
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    history = []
    for _ in range(60):
        terms = detector.train()(batch)
        optimizer.zero_grad()
        sum(terms.losses.values()).backward()
        optimizer.step()
        history.append({k: v.item() for k, v in terms.losses.items()})
    assert list(history[0]) == ["loss_cls", "loss_reg", "loss_dfl"]
    for name in ("loss_reg", "loss_dfl"):
        assert history[-1][name] < 0.5 * history[0][name], name
    with torch.inference_mode():
        found = detector.eval()(batch)
    for detections, box in zip(found, GT.boxes, strict=True):
        assert iou(detections.boxes, box).max() > 0.7
