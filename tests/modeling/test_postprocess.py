"""Compares detections with the published procedure in loops over one image."""

import math
from dataclasses import replace

import pytest
import torch
from helpers_rounding import assert_apart
from helpers_vote import naive_score_vote

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator

MAPS = ((8, 10), (4, 5), (2, 3))
CLASSES = 4
PRIORS = AnchorGenerator((8, 16, 32), (64, 128, 256))(MAPS, torch.device("cpu"))
SIZES = torch.tensor([[64, 80], [50, 71]])
LOW, HIGH = -1000.0, 1000.0


def make_output(images=2, seed=0, bias=-2.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (images, len(PRIORS))
    logits = torch.randn(*shape, CLASSES, generator=generator) * 1.5 + bias
    deltas = torch.randn(*shape, 4, generator=generator)
    return HeadOutput(logits, deltas, torch.randn(*shape, generator=generator), MAPS)


def silent(images=1):
    """Makes an output without detections. Tests set logits."""
    shape = (images, len(PRIORS))
    logits = torch.full((*shape, CLASSES), LOW)
    return HeadOutput(logits, torch.zeros(*shape, 4), torch.full(shape, HIGH), MAPS)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def written_out(output, n, threshold, nms, top_n, best):
    """Gives (score, class, box) of image n, best first."""
    height, width = SIZES[n].tolist()
    found, first = [], 0
    for level in PRIORS.levels:
        here = []
        for p in range(first, first + level.locations):
            for c in range(CLASSES):
                score = sigmoid(output.logits[n, p, c].item())
                if score > threshold:
                    here.append((score * sigmoid(output.quality[n, p].item()), c, p))
        found += sorted(here, reverse=True)[:top_n]
        first += level.locations
    decoded = DeltaCoder().decode(output.deltas[n], PRIORS.boxes).tolist()
    kept = []
    for score, c, p in sorted(found, reverse=True):
        x1, y1, x2, y2 = decoded[p]
        box = [min(max(v, 0), limit - 1) for v, limit in ((x1, width), (y1, height))]
        box += [min(max(v, 0), limit - 1) for v, limit in ((x2, width), (y2, height))]
        if all(k != c or overlap(b, box) <= nms for _, k, b in kept):
            kept.append((math.sqrt(score), c, box))
    return kept[:best]


@pytest.mark.parametrize(
    "settings",
    [(0.05, 0.6, 1000, 100), (0.2, 0.6, 20, 100), (0.05, 0.3, 50, 15), (0.5, 0.9, 1000, 100)],
)
def test_loops_agree(settings):
    threshold, nms, top_n, best = settings
    process = PostProcess(
        DeltaCoder(),
        score_threshold=threshold,
        nms_threshold=nms,
        pre_nms_top_n=top_n,
        detections_per_image=best,
    )
    output = make_output()
    detections = process(output, PRIORS, SIZES)
    assert len(detections) == 2
    for n, found in enumerate(detections):
        expected = written_out(output, n, *settings)
        assert 5 < len(found) == len(expected)
        scores, classes, boxes = zip(*expected, strict=True)
        assert_apart(scores)
        torch.testing.assert_close(found.scores, torch.tensor(scores), rtol=1e-5, atol=1e-6)
        assert found.classes.tolist() == list(classes)
        torch.testing.assert_close(found.boxes, torch.tensor(boxes), rtol=1e-5, atol=1e-4)


def test_score_voting_moves_the_boxes_alone():
    output = make_output()
    plain = PostProcess(DeltaCoder())(output, PRIORS, SIZES)
    process = PostProcess(DeltaCoder(), score_voting=True)
    candidates = process(output, PRIORS, SIZES, nms=False)  # these do not vote
    for found, still, among in zip(process(output, PRIORS, SIZES), plain, candidates, strict=True):
        assert torch.equal(found.scores, still.scores)
        assert torch.equal(found.classes, still.classes)
        wanted = [
            naive_score_vote(box, c, among.boxes, among.scores, among.classes, 1)
            for box, c in zip(still.boxes.tolist(), still.classes.tolist(), strict=True)
        ]
        torch.testing.assert_close(found.boxes, torch.tensor(wanted), rtol=1e-4, atol=1e-3)
        assert (found.boxes - still.boxes).abs().amax() > 0.5


def test_the_threshold_is_before_the_quality():
    output = silent()
    output.logits[0, 0, 1] = math.log(0.06 / 0.94)  # passes, although 0.06 * 0.02 is tiny
    output.quality[0, 0] = math.log(0.02 / 0.98)
    output.logits[0, 50, 2] = math.log(0.049 / 0.951)  # does not, although its quality is 1
    (found,) = PostProcess(DeltaCoder())(output, PRIORS, SIZES[:1])
    assert found.classes.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.06 * 0.02)], rel=1e-5)


def test_boxes_are_clipped_to_the_image_without_its_padding():
    output = silent(2)
    output.logits[:, -1, 0] = 0.0  # an anchor of 256 pixels covers all
    boxes = [found.boxes.tolist() for found in PostProcess(DeltaCoder())(output, PRIORS, SIZES)]
    assert boxes == [[[0, 0, 79, 63]], [[0, 0, 70, 49]]]


def test_at_most_a_hundred_and_the_best():
    output = make_output(1, bias=3.0)
    process = PostProcess(DeltaCoder(), nms_threshold=1.0)
    (found,) = process(output, PRIORS, SIZES[:1])
    joint = output.logits[0].sigmoid() * output.quality[0].sigmoid()[:, None]
    assert len(found) == 100
    assert (found.scores.diff() <= 0).all()
    torch.testing.assert_close(found.scores, joint.flatten().sort().values[-100:].flip(0).sqrt())


def test_no_candidates():
    output = silent(2)
    output.logits[1, 4, 3] = HIGH
    none, one = PostProcess(DeltaCoder())(output, PRIORS, SIZES)
    assert none.boxes.shape == (0, 4)
    assert none.scores.shape == none.classes.shape == (0,)
    assert none.classes.dtype == torch.int64
    assert one.classes.tolist() == [3]
    assert one.scores.tolist() == [1]


def test_several_anchors_at_a_location():
    """Detects with the 2nd anchor of the 2nd location of the 2nd level."""
    priors = AnchorGenerator((8, 16, 32), (32, 64, 128), (0.5, 1.0))(MAPS, torch.device("cpu"))
    shape = (1, len(priors))
    index = 8 * 10 * 2 + 3
    output = HeadOutput(
        torch.full((*shape, 2), LOW), torch.zeros(*shape, 4), torch.zeros(shape), MAPS
    )
    output.logits[0, index, 1] = HIGH
    (found,) = PostProcess(DeltaCoder())(output, priors, torch.tensor([[1000, 1000]]))
    expected = priors.boxes[index].clamp(min=0)
    torch.testing.assert_close(found.boxes[0], expected)
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.5)])


def written_out_by_location(output, n, threshold, nms, top_n, scale):
    """Detects as the DSLA release does: best points of a level with all their classes, NMS in
    original pixels, no "+1". Gives (score, class, box)."""
    height, width = SIZES[n].tolist()
    found, first = [], 0
    for level in PRIORS.levels:
        points = range(first, first + level.locations)
        chosen = sorted(points, key=lambda p: -output.logits[n, p].max().item())[:top_n]
        found += [
            (sigmoid(output.logits[n, p, c].item()), c, p) for p in chosen for c in range(CLASSES)
        ]
        first += level.locations
    decoded = DeltaCoder().decode(output.deltas[n], PRIORS.boxes).tolist()
    kept = []
    for score, c, p in sorted(found, reverse=True):
        box = [min(max(v, 0), (width, height)[i % 2]) for i, v in enumerate(decoded[p])]
        far = [v * scale[i % 2] for i, v in enumerate(box)]
        far = [far[0], far[1], far[2] - 1, far[3] - 1]  # `overlap` adds 1
        if score > threshold and all(k != c or overlap(b, far) <= nms for _, k, b, _ in kept):
            kept.append((score, c, far, box))
    return [(score, c, box) for score, c, _, box in kept[:100]]


@pytest.mark.parametrize("top_n", [6, 1000])
def test_the_best_points_with_all_their_classes(top_n):
    process = PostProcess(
        DeltaCoder(),
        pre_nms_top_n=top_n,
        by_location=True,
        convention=BoxConvention.EXACT,
        in_original=True,
    )
    output = make_output()._replace(quality=None)
    original = ((128, 80), (200, 284))  # the first image is squeezed, so NMS sees other IoUs
    for n, found in enumerate(process(output, PRIORS, SIZES, original)):
        scale = [original[n][1 - i] / SIZES[n, 1 - i].item() for i in (0, 1)]
        expected = written_out_by_location(output, n, 0.05, 0.6, top_n, scale)
        assert 5 < len(found) == len(expected)
        scores, classes, boxes = zip(*expected, strict=True)
        assert_apart(scores)
        torch.testing.assert_close(found.scores, torch.tensor(scores), rtol=1e-5, atol=1e-6)
        assert found.classes.tolist() == list(classes)
        torch.testing.assert_close(found.boxes, torch.tensor(boxes), rtol=1e-5, atol=1e-4)


def test_without_a_quality_branch_the_score_is_that_of_the_class():
    output = silent()._replace(quality=None)
    output.logits[0, 7, 1] = math.log(0.36 / 0.64)
    (found,) = PostProcess(DeltaCoder())(output, PRIORS, SIZES[:1])
    assert found.scores.tolist() == pytest.approx([0.36])


def assert_same_detections(found, expected):
    """Allows for rounding: the last bit of PyTorch's sigmoid depends on the place in a tensor."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-6, atol=0)
        torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-6, atol=1e-4)
        assert_apart(b.scores, least=1e-6)
        assert torch.equal(a.classes, b.classes)


@pytest.mark.parametrize("by_location", [False, True])
def test_nothing_waits_for_the_device_before_the_numbers_are_read(by_location):
    """Meta tensors have no data, so a wait fails."""
    process = PostProcess(DeltaCoder(), by_location=by_location, in_original=by_location)
    output = make_output()
    output = output._replace(
        **{name: getattr(output, name).to("meta") for name in ("logits", "deltas", "quality")}
    )
    priors, sizes = replace(PRIORS, boxes=PRIORS.boxes.to("meta")), SIZES.to("meta")
    found, _ = process.candidates(output, priors, sizes)
    found, counts = process.select(found, sizes, ((128, 80), (200, 284)))
    assert [x.shape for x in (*found, counts)] == [(2, 100, 4), (2, 100), (2, 100), (2,)]


@pytest.mark.parametrize("quality", [False, True])
def test_more_candidates_by_location_than_are_looked_for_at_first(monkeypatch, quality):
    """Candidates that are cut off at first still count."""
    process = PostProcess(DeltaCoder(), pre_nms_top_n=30, by_location=True, nms_threshold=0.9)
    output = make_output(3, bias=1.0)
    output = output if quality else output._replace(quality=None)
    sizes = SIZES[[0, 1, 0]]
    found = {}
    for at_first in (5, 1):  # 150 and 30 of at most 30 x 4 classes
        monkeypatch.setattr("dynamic_atss.modeling.postprocess._AT_FIRST", at_first)
        _, cut = process.candidates(output, PRIORS, sizes)
        assert any(cut) == (at_first == 1)
        found[at_first] = process(output, PRIORS, sizes)
    assert_same_detections(found[1], found[5])


def test_without_nms_all_candidates_by_location(monkeypatch):
    monkeypatch.setattr("dynamic_atss.modeling.postprocess._AT_FIRST", 1)
    output = make_output(bias=1.0)._replace(quality=None)
    process = PostProcess(DeltaCoder(), pre_nms_top_n=100, by_location=True)
    found = process(output, PRIORS, SIZES, nms=False)
    passing = (output.logits.sigmoid() > 0.05).flatten(1).sum(1).tolist()
    assert [len(one) for one in found] == passing
    assert passing[0] > 300


@pytest.mark.parametrize("by_location", [False, True])
def test_a_batch_is_its_images(by_location):
    process = PostProcess(DeltaCoder(), pre_nms_top_n=40, by_location=by_location)
    output = make_output(4)._replace(quality=None)
    sizes = SIZES[[0, 1, 1, 0]]
    together = process(output, PRIORS, sizes)
    for n in range(4):
        alone = HeadOutput(output.logits[n : n + 1], output.deltas[n : n + 1], None, MAPS)
        assert_same_detections(process(alone, PRIORS, sizes[n : n + 1]), together[n : n + 1])
