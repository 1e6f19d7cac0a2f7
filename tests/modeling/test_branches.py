"""Tests a head with two branches: one prior per box without NMS, and one that helps training."""

import pytest
import torch
from torch import nn

from dynamic_atss.assigners.rules.task_aligned import TaskAligned
from dynamic_atss.boxes import iou
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.coder import DistanceCoder
from dynamic_atss.modeling.criterion import Criterion
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import DenseHead, HeadOutput
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import Batch, GroundTruth

MANY, ONE = "one_to_many", "one_to_one"
GT = GroundTruth(
    torch.tensor([[4.0, 4, 40, 50], [30, 8, 60, 60], [10, 20, 60, 60]]),
    torch.tensor([0, 1, 2]),
    torch.tensor([0, 0, 1]),
)


class TinyBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 8, stride=8)
        self.second = nn.Conv2d(32, 32, 2, stride=2)

    def forward(self, images):
        first = self.first(images / 50).relu()
        return [first, self.second(first).relu()]


class TwoBranches(nn.Module):
    def __init__(self):
        super().__init__()
        kwargs = {"num_levels": 2, "num_convs": 1, "quality": None, "positive": "exp"}
        self.branches = nn.ModuleDict({n: DenseHead(32, 3, **kwargs) for n in (MANY, ONE)})

    def forward(self, features):
        return {name: head(features) for name, head in self.branches.items()}


def make_detector(criterion=None, **of_postprocess):
    torch.manual_seed(0)
    coder = DistanceCoder(1.0)
    criteria = {
        name: Criterion(TaskAligned(topk=k), coder, lambda x: x)
        for name, k in ((MANY, 13), (ONE, 1))
    }
    return Detector(
        TinyBackbone(),
        TwoBranches(),
        PointGenerator((8, 16)),
        criterion or BranchCriterion(criteria, {MANY: lambda i: 1.0 - i / 100}),
        PostProcess(coder, **{"branch": ONE, "nms": False} | of_postprocess),
        pixel_mean=(103.0, 116.0, 123.0),
        pixel_std=(1.0, 1.0, 1.0),
    )


def make_batch(iteration=0):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 64, 64), generator=generator).to(torch.uint8)
    sizes = torch.tensor([[64, 64]] * 2)
    return Batch(images, sizes, GT, (0, 1), ((64, 64),) * 2, iteration)


@pytest.mark.slow
def test_it_trains_and_finds_each_box_once_without_nms():
    detector = make_detector(score_threshold=0.3)
    optimizer = torch.optim.Adam(detector.parameters(), 2e-3)
    for iteration in range(120):
        terms = detector.train()(make_batch(iteration))
        optimizer.zero_grad()
        sum(terms.losses.values()).backward()
        optimizer.step()
    names = [f"{branch}/{term}" for branch in (MANY, ONE) for term in ("loss_cls", "loss_reg")]
    assert list(terms.losses) == names
    assert terms.metrics[f"{ONE}/positives"] == 1.5 < terms.metrics[f"{MANY}/positives"]
    with torch.inference_mode():
        found = detector.eval()(make_batch())
    assert [len(x) for x in found] == [2, 1]
    for detections, image in zip(found, (0, 1), strict=True):
        mine = GT.image_index == image
        order = detections.classes.argsort()
        assert detections.classes[order].tolist() == GT.classes[mine].tolist()
        assert (iou(detections.boxes[order], GT.boxes[mine]) > 0.6).all()


def test_the_weight_follows_the_iteration():
    detector = make_detector().train()
    first, later = (detector(make_batch(i)).losses for i in (0, 50))
    for name, value in first.items():
        factor = 0.5 if name.startswith(MANY) else 1.0
        assert later[name].item() == pytest.approx(factor * value.item(), rel=1e-6)


def test_post_processing_reads_its_branch_with_or_without_nms():
    """At threshold 0, there are a hundred without NMS, and fewer without overlaps with NMS."""
    without, with_nms = (
        make_detector(nms=nms, score_threshold=0.0, branch=MANY, nms_threshold=0.3).eval()
        for nms in (False, True)
    )
    output = without.head(without.backbone(without.normalize(*_images())))[MANY]
    best = output.logits.sigmoid().flatten(1).topk(100).values
    for detections, scores in zip(without(make_batch()), best, strict=True):
        torch.testing.assert_close(detections.scores, scores, rtol=1e-5, atol=0)
    for detections in with_nms(make_batch()):
        overlap = iou(detections.boxes[:, None], detections.boxes[None])
        same = detections.classes[:, None] == detections.classes[None]
        overlap = torch.where(same, overlap, 0.0).fill_diagonal_(0.0)
        assert 0 < len(detections) <= 100 and overlap.max() <= 0.35  # 0.3 holds for sides with "+1"


def _images():
    batch = make_batch()
    return batch.images, batch.sizes


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("one_to_few", r"branch 'one_to_few', .* branches 'one_to_many', 'one_to_one'"),
        (None, r"a head without branches, .* branches 'one_to_many', 'one_to_one': use Branch"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_branch_that_the_head_does_not_have(wanted, message, training):
    """The first training step reports it."""
    detector = make_detector(branch=wanted).train(training)
    with pytest.raises(UserError, match=f"post-processing PostProcess reads .*{message}"):
        detector(make_batch())


class ReadsTwo(PostProcess):
    def output(self, outputs):
        return outputs[MANY]._replace(logits=outputs[MANY].logits + outputs[ONE].logits)


def test_post_processing_of_the_users_that_reads_two_branches():
    detector = make_detector(score_threshold=0.0)
    detector.postprocess = ReadsTwo(DistanceCoder(1.0), score_threshold=0.0)
    assert detector.train()(make_batch()).losses
    assert all(map(len, detector.eval()(make_batch())))


def test_a_criterion_that_wants_a_branch_of_its_own():
    rule = Criterion(TaskAligned(), DistanceCoder(1.0), lambda x: x)
    detector = make_detector(BranchCriterion({"auxiliary": rule})).train()
    message = r"criterion BranchCriterion reads .*'auxiliary', .* branches 'one_to_many'"
    with pytest.raises(UserError, match=message):
        detector(make_batch())
    plain = HeadOutput(torch.zeros(2, 80, 3), torch.zeros(2, 80, 4), None, ((8, 8), (4, 4)))
    priors = PointGenerator((8, 16))(plain.sizes, torch.device("cpu"))
    with pytest.raises(UserError, match=r"'auxiliary', but the head gives one output"):
        detector.criterion(plain, priors, GT)


def test_a_weight_without_a_criterion():
    with pytest.raises(ValueError, match=r"weight of 'few': there is no criterion"):
        BranchCriterion({}, {"few": lambda i: 1.0})


def test_a_criterion_without_branches_for_a_head_that_has_some():
    rule = Criterion(TaskAligned(), DistanceCoder(1.0), lambda x: x)
    with pytest.raises(UserError, match=r"criterion Criterion reads .* has branches 'one_to_many'"):
        make_detector(rule).train()(make_batch())
