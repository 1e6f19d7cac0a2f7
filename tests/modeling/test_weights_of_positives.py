"""Tests additional results of rules (weights, background weights, losses, metrics), and rules that
learn."""

import pytest
import torch
from torch import nn

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.boxes import giou
from dynamic_atss.errors import UserError
from dynamic_atss.losses import (
    quality_focal_loss,
    sigmoid_focal_loss,
    varifocal_loss,
    weighted_focal_loss,
)
from dynamic_atss.modeling.class_loss import CLASS_LOSSES, ClassLoss
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.criterion import Criterion, RetinaNetCriterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth, Predictions

MAPS = ((4, 4), (2, 2))
CLASSES = 3
PRIORS = AnchorGenerator((8, 16), (64, 128))(MAPS, torch.device("cpu"))
P = len(PRIORS)
GT = GroundTruth(
    torch.tensor([[10.0, 10, 50, 50], [20, 5, 60, 40]]), torch.tensor([2, 1]), torch.tensor([0, 1])
)


def no_average(sums):
    return sums


def make_output(size=1.0):
    generator = torch.Generator().manual_seed(4)
    shapes = [(2, P, CLASSES), (2, P, 4), (2, P)]
    return HeadOutput(
        *(torch.randn(s, generator=generator).mul(size).requires_grad_() for s in shapes), MAPS
    )


def answer(**more):
    """Priors 3 and 5 of image 0 learn box 0, and 7 is ignored. Prior 2 of image 1 learns box 1."""
    index = torch.full((2, P), BACKGROUND)
    index[0, [3, 5]], index[0, 7], index[1, 2] = 0, IGNORE, 1
    quality = torch.zeros(2, P)
    quality[0, 3], quality[0, 5], quality[1, 2] = 0.8, 0.4, 0.6
    return Assignment(index, quality, **more)


class Fixed:
    soft_labels, quality_name, needs_size = True, "IoU", False

    def __init__(self, found):
        self.found = found

    def __call__(self, priors, gt, predictions):
        return self.found


def background_terms(logits, kind):
    """Computes the term of each class as background."""
    p = logits.sigmoid()
    entropy = -(1 - p).log()
    return {
        "focal": 0.75 * p**2 * entropy,
        "quality_focal": p**2 * entropy,
        "varifocal": 0.75 * p**2 * entropy,
        "soft_focal": 0.75 * p**2 * entropy,
    }[kind]


def of_positive(x, q, kind):
    p = x.sigmoid()
    entropy = -(q * p.log() + (1 - q) * (1 - p).log())
    return {
        "focal": -0.25 * (1 - p) ** 2 * p.log(),
        "quality_focal": (q - p).abs() ** 2 * entropy,
        "varifocal": q * entropy,
        "soft_focal": entropy,
    }[kind]


def soft_focal(logits, classes, label):
    rows = []
    for x, c, q in zip(logits, classes.tolist(), label, strict=True):
        terms = background_terms(x, "soft_focal")
        terms = torch.stack(
            [of_positive(x[k], q, "soft_focal") if k == c else terms[k] for k in range(CLASSES)]
        )
        rows.append(terms.sum() * (c != IGNORE))
    return torch.stack(rows).sum()


def written_out(logits, found, weight, negative, kind, background=1.0):
    total = logits.new_zeros(())
    for n in range(2):
        for p in range(P):
            t = found.gt_index[n, p].item()
            if t == IGNORE:
                continue
            terms = background_terms(logits[n, p], kind)
            terms = background * terms
            if t >= 0:
                c = GT.classes[t]
                positive = weight[n, p] * of_positive(logits[n, p, c], found.quality[n, p], kind)
                total = total - terms[c] + positive + negative[n, p] * terms[c]
            total = total + terms.sum()
    return total


@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_the_class_term_with_weights_by_hand(kind):
    torch.manual_seed(0)
    logits = torch.randn(2, P, CLASSES, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, P, dtype=torch.float64, requires_grad=True)
    negative = torch.rand(2, P, dtype=torch.float64, requires_grad=True)
    found = answer(weight=weight, negative=negative)
    loss = ClassLoss(kind)(logits, found, GT, found.quality, torch.tensor(4.0))
    wanted = written_out(logits, found, weight, negative, kind) / 4
    torch.testing.assert_close(loss, wanted)
    inputs = (logits, weight, negative)
    for a, b in zip(*(torch.autograd.grad(x, inputs) for x in (loss, wanted)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_weights_of_one_are_no_weights(kind):
    torch.manual_seed(0)
    logits = (torch.randn(50, CLASSES) * 3).requires_grad_()
    classes, label = torch.randint(-2, CLASSES, (50,)), torch.rand(50)
    plain = {
        "focal": lambda: sigmoid_focal_loss(logits, classes),
        "quality_focal": lambda: quality_focal_loss(logits, classes, label),
        "varifocal": lambda: varifocal_loss(logits, classes, label),
        "soft_focal": lambda: soft_focal(logits, classes, label),
    }[kind]()
    weighted = weighted_focal_loss(logits, classes, label, torch.ones(50), torch.zeros(50), kind)
    torch.testing.assert_close(weighted, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(x, logits)[0] for x in (weighted, plain)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_a_divisor_of_the_background_alone(kind):
    logits = make_output().logits.detach().double().requires_grad_()
    found, ones = answer(), torch.ones(2, P, dtype=torch.float64)
    divisors = torch.tensor(4.0).double(), torch.tensor(0.5).double()
    loss = ClassLoss(kind)(logits, found, GT, found.quality, *divisors)
    wanted = written_out(logits, found, ones, 0 * ones, kind, background=8.0) / 4
    torch.testing.assert_close(loss, wanted)
    gradients = (torch.autograd.grad(x, logits)[0] for x in (loss, wanted))
    torch.testing.assert_close(*gradients)


def test_divisors_of_the_rule_are_averaged_over_the_processes():
    """Replace the number of positives in every term. Here the other process has larger sums."""
    output, seen = make_output(), []

    def average(sums):
        seen.append(sums.tolist())
        return sums + 4

    plain, given = answer(), answer(divisors=torch.tensor([2.0, 6.0]))
    terms = Criterion(Fixed(given), DeltaCoder(), average)(output, PRIORS, GT).losses
    assert seen == [pytest.approx([3, 1.8, 1.8, 2, 6])]  # one collective call
    ones = torch.ones(2, P)
    wanted = written_out(output.logits, given, ones, 0 * ones, "quality_focal", 6 / 10) / 6
    torch.testing.assert_close(terms["loss_cls"], wanted)
    usual = Criterion(Fixed(plain), DeltaCoder(), no_average)(output, PRIORS, GT).losses
    torch.testing.assert_close(terms["loss_reg"], usual["loss_reg"] * 1.8 / 6)
    torch.testing.assert_close(terms["loss_IoU"], usual["loss_IoU"] * 3 / 6)


def test_divisors_in_retinanet():
    output = make_output()._replace(quality=None)
    given, plain = answer(divisors=torch.tensor([2.0, 6.0])), answer()
    ours, usual = (
        RetinaNetCriterion(Fixed(found), DeltaCoder(), no_average)(output, PRIORS, GT).losses
        for found in (given, plain)
    )
    torch.testing.assert_close(ours["loss_retina_reg"], usual["loss_retina_reg"] * 3 * 4 / 2)
    ones = torch.ones(2, P)
    wanted = written_out(output.logits, given, ones, 0 * ones, "quality_focal", 2 / 6) / 2
    torch.testing.assert_close(ours["loss_retina_cls"], wanted)


@pytest.mark.parametrize("kind", CLASS_LOSSES)
@pytest.mark.parametrize("size", [120.0, 1e4])
def test_weighted_terms_stay_finite_far_out(kind, size):
    logits = torch.tensor([[size, -size], [-size, size], [size, size]], requires_grad=True)
    weight = torch.tensor([0.5, 0.5, 0.5], requires_grad=True)
    classes = torch.tensor([0, 0, -1])
    loss = weighted_focal_loss(logits, classes, torch.full((3,), 0.3), weight, weight, kind)
    assert all(x.isfinite().all() for x in torch.autograd.grad(loss, (logits, weight)))


def test_box_and_quality_terms_are_weighted_and_their_normalisers_are_not():
    output = make_output()
    weight = torch.full((2, P), torch.nan)  # used only where there is a box
    weight[0, 3], weight[0, 5], weight[1, 2] = 0.5, 2.0, 1.5
    found = answer(weight=weight, negative=torch.zeros(2, P) + weight / 4)
    terms = Criterion(Fixed(found), DeltaCoder(), no_average)(output, PRIORS, GT)
    boxes = DeltaCoder().decode(output.deltas, PRIORS.boxes)
    box, quality = 0.0, 0.0
    for n, p, q, w in ((0, 3, 0.8, 0.5), (0, 5, 0.4, 2.0), (1, 2, 0.6, 1.5)):
        box += w * q * (1 - giou(boxes[n, p], GT.boxes[n]))
        s = output.quality[n, p].sigmoid()
        quality -= w * (q * s.log() + (1 - q) * (1 - s).log())
    torch.testing.assert_close(terms.losses["loss_reg"], box / (0.8 + 0.4 + 0.6) * 2)
    torch.testing.assert_close(terms.losses["loss_IoU"], quality / 3)
    gradients = torch.autograd.grad(sum(terms.losses.values()), output[:3])
    assert all(x.isfinite().all() for x in (*terms.losses.values(), *gradients))


def test_retinanet_weighs_its_box_term():
    output = make_output()._replace(quality=None)
    weight = torch.zeros(2, P)
    weight[0, 3], weight[0, 5], weight[1, 2] = 3.0, 3.0, 3.0
    plain, weighted = (
        RetinaNetCriterion(Fixed(found), DeltaCoder(), no_average)(output, PRIORS, GT).losses
        for found in (answer(), answer(weight=weight))
    )
    torch.testing.assert_close(weighted["loss_retina_reg"], 3 * plain["loss_retina_reg"])


def test_weight_zero_is_a_box_for_the_background_of_its_class_alone():
    """Prior 5 is not positive, is in no normaliser, and is background of class 2 by 0.25."""
    output, weight, negative = make_output(), torch.ones(2, P), torch.zeros(2, P)
    weight[0, 5], negative[0, 5] = 0.0, 0.25
    seen = []

    def average(sums):
        seen.append(sums.tolist())
        return sums

    found = answer(weight=weight, negative=negative)
    terms = Criterion(Fixed(found), DeltaCoder(), average)(output, PRIORS, GT)
    assert seen == [pytest.approx([2, 1.4, 1.4])]
    assert terms.metrics["positives"] == 1
    wanted = written_out(output.logits, found, weight, negative, "quality_focal") / 2
    torch.testing.assert_close(terms.losses["loss_cls"], wanted)
    gradients = torch.autograd.grad(sum(terms.losses.values()), output[1:3])
    assert all((g[0, 5] == 0).all() and g[0, 3].abs().sum() > 0 for g in gradients)


def test_weights_give_the_rule_its_gradient_and_the_quality_does_not():
    scale = nn.Parameter(torch.tensor(0.5))
    found = answer(weight=scale.expand(2, P), negative=(1 - scale).expand(2, P))
    found = Assignment(found.gt_index, found.quality * scale, found.weight, found.negative)
    terms = Criterion(Fixed(found), DeltaCoder(), no_average)(make_output(), PRIORS, GT)
    with_scale = torch.autograd.grad(sum(terms.losses.values()), scale)[0]
    moved = {}
    for value in (0.5 - 1e-3, 0.5 + 1e-3):  # the quality keeps 0.5: it is detached
        weight, negative = torch.full((2, P), value), torch.full((2, P), 1 - value)
        fixed = Assignment(found.gt_index, found.quality.detach(), weight, negative)
        again = Criterion(Fixed(fixed), DeltaCoder(), no_average)(make_output(), PRIORS, GT)
        moved[value] = sum(again.losses.values()).item()
    low, high = moved.values()
    assert with_scale.item() == pytest.approx((high - low) / 2e-3, rel=1e-2)


def test_losses_and_metrics_of_a_rule_join_the_others():
    given = {"loss_width": torch.tensor(0.7)}, {"width": torch.tensor(3.0)}
    found = answer(losses=given[0], metrics=given[1])
    terms = Criterion(Fixed(found), DeltaCoder(), no_average)(make_output(), PRIORS, GT)
    assert list(terms.losses) == ["loss_cls", "loss_reg", "loss_IoU", "loss_width"]
    assert terms.losses["loss_width"] == 0.7 and terms.metrics["width"] == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"losses": {"width": torch.tensor(1.0)}}, "'width': its name must begin with 'loss_'"),
        (
            {"losses": {"loss_cls": torch.tensor(1.0)}},
            "'loss_cls', a name that the criterion already uses",
        ),
        (
            {"metrics": {"positives": torch.tensor(1.0)}},
            "'positives', a name that the criterion already uses",
        ),
    ],
)
def test_names_that_are_taken_are_refused(more, message):
    criterion = Criterion(Fixed(answer(**more)), DeltaCoder(), no_average)
    with pytest.raises(UserError, match=message):
        Terms.of(criterion(make_output(), PRIORS, GT))


class Learning(nn.Module):
    """Gives every box the prior of its index. Learns the weights."""

    soft_labels, quality_name, needs_size = True, "IoU", False

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, priors, gt, predictions):
        self.seen += len(gt)
        found = answer()
        return Assignment(found.gt_index, found.quality, self.scale.expand(2, P) * 1.0)


@pytest.mark.parametrize("make", [Criterion, RetinaNetCriterion])
def test_a_rule_that_is_a_module_is_a_part_of_the_criterion(make):
    criterion = make(Learning(), DeltaCoder(), no_average)
    assert list(criterion.state_dict()) == ["assigner.scale", "assigner.seen"]
    inside = make(AtLeastOne(Learning()), DeltaCoder(), no_average)
    assert list(inside.state_dict()) == ["assigner.scale", "assigner.seen"]
    assert not inside.eval().assigner.rule.training
    assert next(inside.to("meta").parameters()).is_meta


@pytest.mark.parametrize("name", ASSIGNERS)
def test_todays_rules_add_nothing_to_a_checkpoint_but_the_means_of_simd(name):
    kept = ["assigner.sums"] if name == "simd" else []
    for rule in (ASSIGNERS[name](), AtLeastOne(ASSIGNERS[name]())):
        assert list(Criterion(rule, DeltaCoder(), no_average).state_dict()) == kept


def test_at_least_one_keeps_the_gradient_and_weighs_its_own_positives_with_one():
    """Box 1 has only a positive of weight 0, so it gets another one of weight 1."""
    scale = nn.Parameter(torch.tensor(0.5))
    weight = scale * torch.ones(2, P)
    weight = torch.where(torch.arange(P) == 2, 0.0, weight)
    found = answer(weight=weight, negative=torch.full((2, P), 0.5), metrics={"a": torch.ones(())})
    predictions = _predictions()
    full = AtLeastOne(Fixed(found))(PRIORS, GT, predictions)
    new = full.positive & ~found.positive
    assert new[0].sum() == 0 and new[1].sum() == 1
    assert full.gt_index[new] == 1 and full.weight[new] == 1 and full.negative[new] == 0
    assert full.metrics == found.metrics
    assert torch.autograd.grad(full.weight.sum(), scale)[0] == 2 * P - 2 - (not new[1, 2])


def _predictions():
    return Predictions(PRIORS.boxes.expand(2, P, 4), torch.zeros(2, P, CLASSES))


def test_rules_see_the_quality_logit_and_the_heads_further_maps_detached():
    class Looking(Fixed):
        def __call__(self, priors, gt, predictions):
            self.saw = predictions
            return self.found

    rule, output = Looking(answer()), make_output()
    extras = {"centre": torch.randn(2, P, 2, requires_grad=True)}
    Criterion(rule, DeltaCoder(), no_average)(output._replace(extras=extras), PRIORS, GT, 7)
    assert torch.equal(rule.saw.quality, output.quality) and rule.saw.iteration == 7
    assert torch.equal(rule.saw.extras["centre"], extras["centre"])
    seen = (rule.saw.quality, rule.saw.extras["centre"], rule.saw.boxes, rule.saw.logits)
    assert not any(x.requires_grad for x in seen)
    Criterion(rule, DeltaCoder(), no_average)(output._replace(quality=None), PRIORS, GT)
    assert rule.saw.quality is None and rule.saw.extras == {}


class MissesItsStep(Learning):
    def forward(self, priors, gt, predictions):
        return answer()


def test_every_parameter_of_the_rule_has_a_gradient_in_every_step():
    terms = Criterion(MissesItsStep(), DeltaCoder(), no_average)
    found = terms(make_output(), PRIORS, GT)
    touched = found.touching(list(terms.parameters()))
    assert {k: v.item() for k, v in touched.losses.items()} == {
        k: v.item() for k, v in found.losses.items()
    }
    sum(touched.losses.values()).backward()
    assert terms.assigner.scale.grad == 0


def test_metrics_of_an_assignment():
    """Two images of 20 priors have three positives on the finest level and an ignored prior."""
    output = make_output()
    deltas = output.deltas.detach().clone()
    deltas[0, 3] = DeltaCoder().encode(GT.boxes[0], PRIORS.boxes[3])  # IoU 1
    output = output._replace(deltas=deltas)
    found = Criterion(Fixed(answer()), DeltaCoder(), no_average)(output, PRIORS, GT).metrics
    assert found["positives"] == 1.5
    assert (found["positives_s8"], found["positives_s16"]) == (1.5, 0)
    assert found["boxes_without_positive"] == 0
    assert found["ignored"] == pytest.approx(1 / (2 * P))
    overlap, count = found["iou_of_positives"].tolist()
    assert count == 3 and 1 <= overlap < 3
    far = GroundTruth(
        torch.cat((GT.boxes, GT.boxes)), GT.classes.repeat(2), GT.image_index.repeat(2)
    )
    more = Criterion(Fixed(answer()), DeltaCoder(), no_average)(output, PRIORS, far).metrics
    assert more["boxes_without_positive"] == 1  # two boxes, two images


@pytest.mark.parametrize("name", ASSIGNERS)
def test_the_same_metrics_without_boxes(name):
    nothing = GroundTruth(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long())
    criterion = Criterion(ASSIGNERS[name](), DeltaCoder(), no_average)
    with_boxes, without = (criterion(make_output(), PRIORS, gt).metrics for gt in (GT, nothing))
    assert list(with_boxes) == list(without)
    assert [x.shape for x in with_boxes.values()] == [x.shape for x in without.values()]
    assert all((x == 0).all() for x in without.values())
