"""Compares batched NMS: kernels with the reference, and the reference with a loop.

Also runs PyTorch's checks of operators.
"""

import math

import pytest
import torch
from helpers_nms import SCENES, crowd, greedy

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops import library, nms
from dynamic_atss.ops.nms import batched_multiclass_nms

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    """Gives a device with kernels."""
    if library.load()[request.param] != "native":
        pytest.skip(f"no kernels for {request.param}: {library.load()[request.param]}")
    return request.param


def lists(found):
    return [x.tolist() for x in found]


def assert_as_reference(scene, threshold, convention, limit, device):
    found = batched_multiclass_nms(*(x.to(device) for x in scene), threshold, convention, limit)
    assert lists(found) == lists(nms._reference(*scene, threshold, convention.value, limit))
    assert all(x.dtype == torch.int64 and x.device.type == device for x in found)


@pytest.mark.parametrize("convention", BoxConvention)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCENES)
def test_the_kernels_keep_what_the_reference_keeps(name, dtype, convention, device):
    boxes, scores, classes = SCENES[name]()
    scene = boxes.to(dtype), scores.to(dtype), classes
    for threshold, limit in ((0.5, None), (0.0, 9), (0.8, 1), (1.5, None)):
        assert_as_reference(scene, threshold, convention, limit, device)


def test_the_threshold_is_met_to_the_last_bit(device):
    """At the pair's IoU both boxes stay. At the next smaller number one is suppressed."""
    boxes = crowd(1, 200, 1, seed=11)[0].double() * 1.1 + 0.3
    scores, classes = torch.tensor([[0.9, 0.8]]).double(), torch.zeros(1, 2).long()
    seen = 0
    for pair in boxes.view(100, 1, 2, 4):
        a, b = pair[0].tolist()
        width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
        inter = max(width, 0.0) * max(height, 0.0)
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
        iou = inter / (areas[0] + areas[1] - inter)
        if iou > 0:
            for threshold, kept in ((iou, 2), (math.nextafter(iou, 0.0), 1)):
                scene = (x.to(device) for x in (pair, scores, classes))
                assert batched_multiclass_nms(*scene, threshold, BoxConvention.EXACT)[
                    1
                ].tolist() == [kept]
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("name", ["some classes", "one class, crowded", "all ties", "odd classes"])
def test_the_reference_keeps_what_a_loop_keeps(name, threshold):
    scene = SCENES[name]()
    keep, counts = nms._reference(*scene, threshold, 1.0, None)
    for n, image in enumerate(zip(*scene, strict=True)):
        wanted = greedy(*image, threshold, 1.0)
        assert keep[n].tolist() == wanted + [-1] * (keep.shape[1] - len(wanted))
        assert counts[n] == len(wanted)


@pytest.mark.parametrize(
    "name, exact",
    [("some classes", True), ("integer pixels", True), ("all ties", True), ("huge", False),
     ("not finite", False), ("tiny", False)],
)  # fmt: skip
def test_the_reference_moves_classes_apart_only_where_that_is_exact(monkeypatch, name, exact):
    calls, by_class = [], nms._class_by_class
    monkeypatch.setattr(nms, "_class_by_class", lambda *image: calls.append(1) or by_class(*image))
    found = lists(nms._reference(*SCENES[name](), 0.5, 1.0, None))
    assert bool(calls) != exact
    monkeypatch.setattr(nms, "_ONE_PASS", 0)  # always handled class by class
    assert found == lists(nms._reference(*SCENES[name](), 0.5, 1.0, None))


def test_what_is_not_finite_is_kept_and_suppresses_nothing(device):
    """Another pair shows that suppression works. An inverted box suppresses nothing, either."""
    pair = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    for value in (torch.nan, torch.inf, -torch.inf):
        for corner in range(4):
            odd = pair[:1].clone()
            odd[0, corner] = value
            boxes = torch.cat((odd, pair))[None].to(device)
            scores = torch.tensor([[0.9, 0.8, 0.7]], device=device)
            keep, _ = batched_multiclass_nms(boxes, scores, scores.long(), 0.5, BoxConvention.EXACT)
            assert keep.tolist() == [[0, 1, -1]]
    inverted = torch.tensor([[10.0, 10, 0, 0]])
    boxes = torch.cat((inverted, pair))[None].to(device)
    keep, _ = batched_multiclass_nms(boxes, scores, scores.long(), 0.5, BoxConvention.EXACT)
    assert keep.tolist() == [[0, 1, -1]]


def test_a_limit_takes_the_first(device):
    scene = [x.to(device) for x in crowd(4, 300, 6, seed=12)]
    keep, counts = batched_multiclass_nms(*scene, 0.5)
    assert keep.shape == (4, 300) and counts.min() > 20
    for limit in (1, 20, 299, 300, 10**12):
        limited, number = batched_multiclass_nms(*scene, 0.5, limit=limit)
        assert torch.equal(limited, keep[:, :limit])
        assert torch.equal(number, counts.clamp(max=limit))


def test_images_do_not_touch_each_other(device):
    scene = [x.to(device) for x in crowd(5, 120, 2, seed=13)]
    keep, counts = batched_multiclass_nms(*scene, 0.4)
    for n in range(5):
        alone = batched_multiclass_nms(*(x[n : n + 1] for x in scene), 0.4)
        assert lists(alone) == [[keep[n].tolist()], [counts[n].tolist()]]


@pytest.mark.parametrize("shape", [(1, 41_000), (2, 41_000), (130, 310)])
@pytest.mark.parametrize("limit", [None, 50])
def test_any_number_of_threads(shape, limit):
    """Uses one image, whose classes the threads share, fewer images than threads, and many."""
    scene, before = crowd(*shape, 40, seed=14), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(lists(batched_multiclass_nms(*scene, 0.5, limit=limit)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]
    assert found[0] == lists(nms._reference(*scene, 0.5, 1.0, limit))


def test_layouts_in_memory(device):
    boxes, scores, classes = (x.to(device) for x in crowd(3, 80, 3, seed=15))
    wanted = lists(batched_multiclass_nms(boxes, scores, classes, 0.5))
    moved = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0), scores.t().contiguous().t()
    classes = classes.repeat_interleave(2, dim=1)[:, ::2]
    assert not any(x.is_contiguous() for x in (*moved, classes))
    assert lists(batched_multiclass_nms(*moved, classes, 0.5)) == wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype, device):
    boxes, scores, classes = (x.to(device) for x in crowd(2, 90, 3, seed=16))
    half = boxes.to(dtype), scores.to(dtype)
    wanted = lists(batched_multiclass_nms(*(x.float() for x in half), classes, 0.5))
    assert lists(batched_multiclass_nms(*half, classes, 0.5)) == wanted
    mixed = half[0].double(), half[1]
    assert lists(batched_multiclass_nms(*mixed, classes, 0.5)) == wanted


BOXES, SCORES, CLASSES = torch.zeros(2, 3, 4), torch.ones(2, 3), torch.zeros(2, 3).long()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((BOXES[:, :2], SCORES, CLASSES, 0.5), "give \\(N, K, 4\\)"),
        ((BOXES[..., :3], SCORES, CLASSES, 0.5), "give \\(N, K, 4\\)"),
        ((BOXES[0], SCORES[0], CLASSES[0], 0.5), "give \\(N, K, 4\\)"),
        ((BOXES, SCORES, CLASSES[:1], 0.5), "\\(1, 3\\)"),
        ((BOXES, SCORES, CLASSES.int(), 0.5), "classes are torch.int32"),
        ((BOXES, SCORES.long(), CLASSES, 0.5), "scores torch.int64; give floating"),
        ((BOXES, SCORES, CLASSES, float("nan")), "threshold is nan"),
        ((BOXES, SCORES, CLASSES, -0.1), "threshold is -0.1"),
        ((BOXES, SCORES, CLASSES, 0.5, 1.0, 0), "limit is 0"),
        ((BOXES, SCORES, CLASSES, 0.5, 1.0, -3), "limit is -3"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        batched_multiclass_nms(*arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((BOXES[:, :2], SCORES, CLASSES, 0.5, 1.0, None), "boxes have shape \\(2, 2, 4\\)"),
        ((BOXES[..., :3], SCORES, CLASSES, 0.5, 1.0, None), "boxes have shape \\(2, 3, 3\\)"),
        ((BOXES, SCORES[0], CLASSES, 0.5, 1.0, None), "scores have shape \\(3"),
        ((BOXES, SCORES, CLASSES[:, :1], 0.5, 1.0, None), "classes have shape \\(2, 1\\)"),
        ((BOXES, SCORES, CLASSES.int(), 0.5, 1.0, None), "classes must be int64"),
        ((BOXES.double(), SCORES, CLASSES, 0.5, 1.0, None), "both be float32"),
        ((BOXES.half(), SCORES.half(), CLASSES, 0.5, 1.0, None), "both be float32"),
        ((BOXES, SCORES, CLASSES, float("nan"), 1.0, None), "threshold"),
        ((BOXES, SCORES, CLASSES, 0.5, 1.0, 0), "limit"),
        ((BOXES, SCORES, CLASSES, 0.5, 1.0, -(2**63)), "limit"),
    ],
)
def test_the_kernels_look_at_their_arguments_themselves(arguments, message, device):
    moved = (x.to(device) if isinstance(x, torch.Tensor) else x for x in arguments)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.dynamic_atss.batched_multiclass_nms(*moved)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 20])
def test_opcheck(limit, device):
    scene = [x.to(device) for x in crowd(2, 50, 3, seed=17)]
    torch.library.opcheck(nms._OP, (*scene, 0.5, 1.0, limit))


def test_compiles_into_one_graph():
    """The number of candidates may change. The backend aot_eager is fast."""
    compiled = torch.compile(batched_multiclass_nms, fullgraph=True, backend="aot_eager")
    for count in (40, 60, 80):
        scene = crowd(2, count, 3, seed=count)
        found = compiled(*scene, 0.5, limit=50)
        assert lists(found) == lists(batched_multiclass_nms(*scene, 0.5, limit=50))


def test_no_shape_depends_on_the_data():
    scene = [x.to("meta") for x in crowd(2, 50, 3)]
    assert [x.shape for x in batched_multiclass_nms(*scene, 0.5)] == [(2, 50), (2,)]
    assert [x.shape for x in batched_multiclass_nms(*scene, 0.5, limit=9)] == [(2, 9), (2,)]


@pytest.mark.cuda
def test_nothing_waits_for_the_gpu():
    if library.load()["cuda"] != "native":
        pytest.skip(f"no kernels for cuda: {library.load()['cuda']}")
    scene = [x.cuda() for x in crowd(4, 500, 5)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        batched_multiclass_nms(*scene, 0.5, limit=100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
