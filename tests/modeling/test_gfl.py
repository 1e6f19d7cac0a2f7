"""Tests generalized focal loss: distributions of distances, and weights of the box loss."""

from math import exp, log

import pytest
import torch
from helpers_head import build_parts
from helpers_run import ROOT
from torch import nn

from dynamic_atss.builders import check_config
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.losses import distribution_focal_loss, giou_loss
from dynamic_atss.modeling.box_terms import Distribution, giou
from dynamic_atss.modeling.coder import DistanceCoder, DistributionCoder
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth

MAPS = ((8, 8), (4, 4))
PRIORS = AnchorGenerator((8, 16), (64, 128))(MAPS, torch.device("cpu"))
P, BINS = len(PRIORS), 17
FILE = ROOT / "configs/rules/gfl_R_50_FPN_1x.yaml"
LEVELS = ((8, 8), (4, 4), (2, 2), (1, 1), (1, 1))
GT = GroundTruth(
    torch.tensor([[4.0, 4, 40, 50], [10, 20, 60, 60]]), torch.tensor([0, 2]), torch.tensor([0, 1])
)


def parts(*overrides, file=FILE):
    cfg = load_config(file, [str(x) for x in overrides])
    check_config(cfg)
    return build_parts(cfg, 32, 3)


def test_a_distribution_of_one_peak_is_its_distance():
    coder = DistributionCoder(8.0, 16)
    torch.manual_seed(0)
    bins = torch.randint(BINS, (P, 4))
    logits = torch.full((P, 4, BINS), -100.0).scatter_(2, bins[..., None], 100.0)
    found = coder.decode(logits.flatten(1), PRIORS.boxes)
    wanted = DistanceCoder(8.0).decode(bins.float(), PRIORS.boxes)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(coder.encode(found, PRIORS.boxes), bins.float())


def test_the_distance_is_the_mean_in_strides():
    logits = torch.randn(P, 4, 3, dtype=torch.float64)
    found = DistributionCoder(8.0, 2).decode(logits.flatten(1), PRIORS.boxes.double())
    for p in (0, P - 1):
        mean = []
        for values in logits[p].tolist():
            total = sum(map(exp, values))
            mean.append((exp(values[1]) + 2 * exp(values[2])) / total * PRIORS.strides[p].item())
        x, y = PRIORS.centers[p].tolist()
        wanted = [x - mean[0], y - mean[1], x + mean[2], y + mean[3]]
        assert found[p].tolist() == pytest.approx(wanted)


def test_another_number_of_values_is_one_line():
    with pytest.raises(UserError, match=r"coder DistributionCoder: .* \(N, P, 68\) is needed"):
        DistributionCoder(8.0, 16).decode(torch.zeros(2, P, 4), PRIORS.boxes)


def test_the_focal_loss_of_distributions_by_hand():
    torch.manual_seed(1)
    logits = torch.randn(5, 4, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(5, 4, dtype=torch.float64) * 4.9
    targets[0, 0] = 3.0
    weight = torch.rand(5, dtype=torch.float64)
    wanted = 0.0
    for values, sides, w in zip(logits.tolist(), targets.tolist(), weight.tolist(), strict=True):
        for row, t in zip(values, sides, strict=True):
            total, low = log(sum(map(exp, row))), int(t)
            loss = (low + 1 - t) * (total - row[low]) + (t - low) * (total - row[low + 1])
            wanted += w * loss / 4
    found = distribution_focal_loss(logits, targets, weight)
    assert found.item() == pytest.approx(wanted)
    assert torch.autograd.gradcheck(
        lambda x: distribution_focal_loss(x, targets, weight), logits.detach().requires_grad_()
    )


def test_a_target_beyond_the_last_bin_counts_as_nearly_there():
    coder = DistributionCoder(8.0, 4)
    term = Distribution(coder, giou, 1.0, 1.0)
    raw = torch.randn(1, P, 20)
    far = PRIORS.boxes + torch.tensor([-900.0, -900, 900, 900])
    weight = torch.ones(1, P)
    found = term(raw, far[None], far[None], weight, PRIORS)["loss_dfl"]
    limit = torch.full((1, P, 4), 3.9)
    wanted = distribution_focal_loss(raw.view(1, P, 4, 5), limit, weight)
    torch.testing.assert_close(found, wanted)


def test_the_published_losses_by_their_definition():
    """Both losses are weighted by the class score, and the class target is the IoU."""
    torch.manual_seed(2)
    made = parts()
    priors = made.priors(LEVELS, torch.device("cpu"))
    output = made.network([torch.randn(2, 32, h, w) for h, w in LEVELS])
    assert output.quality is None and output.deltas.shape == (2, len(priors), 68)
    output = HeadOutput(output.logits + 2, 3 * output.deltas, None, LEVELS)
    losses = made.criterion(output, priors, GT).losses
    assert list(losses) == ["loss_cls", "loss_reg", "loss_dfl"]
    coder = made.criterion.coder
    boxes = coder.decode(output.deltas, priors.boxes)
    found = made.criterion.assigner(
        priors, GT, type("Seen", (), {"boxes": boxes, "logits": output.logits, "iteration": 0})
    )
    n, p = found.positive.nonzero().unbind(1)
    score = output.logits.sigmoid().amax(-1)[n, p]
    targets = GT.boxes[found.gt_index[n, p]]
    reg = giou_loss(boxes[n, p], targets, score)
    distances = coder.encode(targets, priors.boxes[p]).clamp(0, 15.9)
    dfl = distribution_focal_loss(coder.logits(output.deltas[n, p]), distances, score)
    assert len(p) > 4
    torch.testing.assert_close(losses["loss_reg"], 2 * reg / score.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses["loss_dfl"], 0.25 * dfl / score.sum(), rtol=1e-5, atol=0)


def test_with_another_box_loss_and_rule_and_with_a_quality_branch():
    made = parts(
        *("MODEL.BOX_LOSS", f"{ROOT}/examples/diou_loss.py:diou", "MODEL.ASSIGNER.NAME", "simota"),
        *("MODEL.ATSS_ON", True, "MODEL.ATSS.REGRESSION_TYPE", "DISTRIBUTION"),
        file=None,
    )
    output = made.network([torch.randn(2, 32, h, w) for h, w in LEVELS])
    losses = made.criterion(output, made.priors(LEVELS, torch.device("cpu")), GT).losses
    assert list(losses) == ["loss_cls", "loss_reg", "loss_dfl", "loss_IoU"]
    assert made.criterion.box_loss.term.__name__ == "diou"


def test_a_term_that_learns_is_a_part_of_the_model():
    class Learning(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    term = Distribution(DistributionCoder(8.0, 16), Learning(), 1.0, 1.0)
    assert [name for name, _ in term.named_parameters()] == ["term.scale"]


def test_several_anchors_at_a_location_are_refused():
    with pytest.raises(UserError, match="REGRESSION_TYPE DISTRIBUTION needs one anchor"):
        parts("MODEL.ATSS.SCALES_PER_OCTAVE", 3)
