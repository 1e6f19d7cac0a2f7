"""Tests the operators with random, empty, tied, huge and not finite inputs, in all dtypes.

The same tests run on the CPU and on a GPU. They compare with plain PyTorch on the CPU.
"""

import pytest
import torch
from helpers_nms import SCENES
from helpers_odd_logits import DTYPES, INF, KINDS, LOGITS, NAN, assert_rows_as_reference, rows_of

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops import focal, library, nms
from dynamic_atss.ops.nms import batched_multiclass_nms
from dynamic_atss.ops.vote import box_vote, score_vote
from dynamic_atss.types import IGNORE

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    """Gives a device with kernels."""
    if library.load()[request.param] != "native":
        pytest.skip(f"no kernels for {request.param}: {library.load()[request.param]}")
    return request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOGITS)
def test_focal_losses(name, kind, dtype, device):
    for gamma, divisor in ((2.0, None), (1.5, 3.0), (0.5, None), (0.0, 1e30)):
        assert_rows_as_reference(
            torch.ops.dynamic_atss.focal_loss, name, dtype, kind, gamma, divisor, device
        )


def test_a_wrong_loss_is_found():
    def wrong(logits, *others):
        loss, gradient = torch.ops.dynamic_atss.focal_loss(logits, *others)
        return loss, torch.where(logits.isinf(), 0.0, gradient)

    with pytest.raises(AssertionError, match="inf"):
        assert_rows_as_reference(wrong, "not finite", torch.float32, "quality", 2.0, None)


@pytest.mark.parametrize("upstream", [0.0, 1.0, -2.5, 1e30, INF, NAN])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["random", "tied", "huge", "empty"])
def test_gradients_of_focal_losses(name, dtype, upstream, device):
    """Infinity times a gradient of 0 may be infinite or NaN, neither of which is finite. In a row
    that is ignored it may also be 0."""
    logits, classes, quality = rows_of(name, dtype)
    arguments = logits, classes, quality.nan_to_num(0.7), torch.tensor(7.0)
    _, slope = focal._loss_and_gradient(logits.float(), *arguments[1:], focal.QUALITY, 0.0, 2.0)
    leaf, *others = (x.to(device) for x in arguments)
    leaf.requires_grad_()
    loss = focal.quality_focal_loss(leaf, *others[:2], divisor=others[2])
    loss.backward(torch.tensor(upstream, device=device))
    wanted, found, step = (slope * upstream).to(dtype), leaf.grad.cpu(), torch.finfo(dtype).eps
    counts = classes != IGNORE
    wanted, found = wanted[counts], found[counts]
    finite = wanted.isfinite()
    assert found.dtype == dtype and torch.equal(found.isfinite(), finite)
    close = {"rtol": max(4 * step, 5e-5), "atol": 1e-6 * max(1.0, abs(upstream))}
    torch.testing.assert_close(found[finite], wanted[finite], **close)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SCENES)
def test_nms(name, dtype, device):
    """In float16, the huge boxes are infinite."""
    boxes, scores, classes = SCENES[name]()
    scene = boxes.to(dtype), scores.to(dtype), classes
    for threshold, convention in ((0.5, BoxConvention.LEGACY), (0.0, BoxConvention.EXACT)):
        found = batched_multiclass_nms(*(x.to(device) for x in scene), threshold, convention, 60)
        wide = scene[0].float(), scene[1].float(), classes
        wanted = nms._reference(*wide, threshold, convention.value, 60)
        assert [x.tolist() for x in found] == [x.tolist() for x in wanted]


def voters(name):
    """Gives candidates of two images: boxes (2, M, 4), scores (2, M), classes (2, M)."""
    boxes, scores, classes = SCENES[name]()
    return boxes[:2], scores[:2].clamp(0, 1).nan_to_num(0.0), classes[:2]


@pytest.mark.parametrize(
    "name", ["some classes", "all ties", "integer pixels", "no candidates", "no places", "tiny"]
)
def test_score_voting(name, device):
    boxes, scores, classes = voters(name)
    kept = boxes[:, :30], classes[:, :30]
    wanted = score_vote(kept[0].double(), kept[1], (boxes.double(), scores.double(), classes))
    there = [x.to(device) for x in (boxes, scores, classes)]
    found = score_vote(*(x.to(device) for x in kept), tuple(there)).cpu()
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-3)


def test_a_candidate_that_is_not_finite_has_no_vote(device):
    box = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 10], [50, 50, 60, 60]], device=device)
    scores, classes = torch.tensor([[0.9, 0.8, 0.7]], device=device), torch.zeros(1, 3).long()
    classes = classes.to(device)
    wanted = score_vote(box[None], classes, (box[None], scores, classes))
    for value in (NAN, INF, -INF):
        odd = torch.cat((box, torch.tensor([[0.0, 0, 9, value]], device=device)))[None]
        more = torch.cat((scores, scores[:, :1]), 1), torch.cat((classes, classes[:, :1]), 1)
        assert torch.equal(score_vote(box[None], classes, (odd, *more)), wanted)


@pytest.mark.parametrize(
    "name, soft",
    [("some classes", None), ("some classes", 0.05), ("all ties", None), ("integer pixels", None)],
)
def test_box_voting(name, soft, device):
    boxes, scores, classes = (x[0] for x in voters(name))
    chosen = scores > 0
    image = boxes[chosen], scores[chosen], classes[chosen]
    precise = image[0].double(), image[1].double(), image[2]
    wanted = box_vote(*precise, 0.6, soft_threshold=soft)
    found = [x.cpu() for x in box_vote(*(x.to(device) for x in image), 0.6, soft_threshold=soft)]
    assert len(found[0]) != len(image[0])
    assert torch.equal(found[2], wanted[2])
    torch.testing.assert_close(found[0], wanted[0].float(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found[1], wanted[1].float(), rtol=1e-4, atol=1e-5)
