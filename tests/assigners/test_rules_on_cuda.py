"""Compares every rule on a GPU in plain PyTorch with the kernels on the CPU.

Both round differently, so labels may differ only where numbers nearly tie. A prior nearly ties if a
change of the inputs by a millionth changes its label.
"""

import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import Assignment, GroundTruth, Predictions, to_device

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STRIDES = (8, 16, 32, 64, 128)
MAPS = {
    "small": ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1)),
    "800 x 1344": ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11)),
}
COUNTS = {"small": (40, 0, 25), "800 x 1344": (100, 0, 7)}  # boxes in each image
CLASSES = 20
CHANGE = 1e-6
CHANGES = 24  # a label that depends on rounding survives all of them with probability 2^-24
MOST_TIES = 0.02  # share of the priors that learn a box after some change


@pytest.fixture(params=ASSIGNERS)
def rule(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["alone", "at_least_one"])
def assigner(rule, request):
    return AtLeastOne(ASSIGNERS[rule]()) if request.param else ASSIGNERS[rule]()


def assigned(assigner, inputs, device="cpu"):
    """Calls a copy of the rule, because `simd` learns from its calls."""
    copy = deepcopy(assigner)
    copy = copy.to(device) if isinstance(copy, torch.nn.Module) else copy
    return copy(*(to_device(x, device) for x in inputs))


def scene(maps, counts, seed=0):
    """Makes boxes of 8 to 400 pixels, as many per image as given, and predictions near priors."""
    generator = torch.Generator().manual_seed(seed)
    priors = AnchorGenerator(STRIDES, [8.0 * s for s in STRIDES])(maps, torch.device("cpu"))
    total, (height, width) = sum(counts), maps[0]
    center = torch.rand(total, 2, generator=generator) * torch.tensor([8.0 * width, 8 * height])
    half = 4 * 50 ** torch.rand(total, 2, generator=generator)
    classes = torch.randint(CLASSES, (total,), generator=generator)
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    gt = GroundTruth(torch.cat((center - half, center + half), 1), classes, image)
    noise = torch.randn(len(counts), len(priors), 4, generator=generator)
    side = (priors.boxes[:, 2:] - priors.boxes[:, :2]).repeat(1, 2)
    boxes = priors.boxes + 0.1 * noise * side
    logits = torch.randn(len(counts), len(priors), CLASSES, generator=generator)
    return priors, gt, Predictions(boxes, logits)


def changed(x, generator):
    return x * (1 + CHANGE * torch.randn(x.shape, generator=generator).to(x))


def nearly_tied(assigner, inputs):
    """Flags the priors whose label a small change changes, (N, P), and counts those with a box."""
    priors, gt, predictions = inputs
    generator = torch.Generator().manual_seed(1)
    before = assigned(assigner, inputs).gt_index
    tied = torch.zeros_like(before, dtype=torch.bool)
    positive = before >= 0
    for _ in range(CHANGES):
        boxes, logits = (changed(x, generator) for x in (predictions.boxes, predictions.logits))
        other = replace(gt, boxes=changed(gt.boxes, generator))
        moved = priors, other, replace(predictions, boxes=boxes, logits=logits)
        found = assigned(assigner, moved).gt_index
        tied |= found != before
        positive |= found >= 0
    return tied, int(positive.sum())


def assert_same_but_for_ties(here, there, assigner, inputs):
    """Compares assignments of the same inputs on two devices or in two precisions."""
    tied, positive = nearly_tied(assigner, inputs)
    differ = here.gt_index != there.gt_index.cpu()
    print(f"{int(differ.sum())} differ, {int(tied.sum())} nearly tied, {positive} positives")
    assert positive > 0 or not len(inputs[1])
    assert tied.sum() <= MOST_TIES * positive + 2
    assert not (differ & ~tied).any()
    # A quality may depend on the others of its box, so compares only boxes without changes.
    touched = torch.cat((here.gt_index[tied], there.gt_index.cpu()[tied]))
    same = ~tied & ~torch.isin(here.gt_index, touched[touched >= 0])
    assert same.any()
    mine, theirs = here.quality[same], there.quality.cpu()[same].to(here.quality.dtype)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("maps", MAPS)
def test_a_gpu_gives_the_labels_of_the_cpu(assigner, maps):
    """One of the images has no boxes."""
    inputs = scene(MAPS[maps], COUNTS[maps])
    there = assigned(assigner, inputs, "cuda")
    assert there.gt_index.is_cuda and there.quality.is_cuda
    assert_same_but_for_ties(assigned(assigner, inputs), there, assigner, inputs)


@pytest.mark.cuda
@pytest.mark.parametrize("counts", [(0,), (0, 0), (1,)])
def test_few_boxes_or_none_on_a_gpu(assigner, counts):
    inputs = scene(MAPS["small"], counts)
    there = assigned(assigner, inputs, "cuda")
    assert_same_but_for_ties(assigned(assigner, inputs), there, assigner, inputs)


@pytest.mark.cuda
def test_many_boxes_on_a_gpu(rule):
    """Uses more pairs than a block of any kernel handles."""
    assigner, inputs = ASSIGNERS[rule](), scene(MAPS["800 x 1344"], (1000, 500))
    there = assigned(assigner, inputs, "cuda")
    assert there.positive.sum() > 500
    differ = (assigned(assigner, inputs).gt_index != there.gt_index.cpu()).sum()
    assert differ <= 0.01 * there.positive.sum()


@pytest.mark.cuda
def test_a_stream_of_its_own(assigner):
    """The inputs are written late, so work on another stream would read the old values."""
    inputs = [to_device(x, "cuda") for x in scene(MAPS["small"], (10, 5))]
    priors, gt, predictions = inputs
    expected, stream = assigned(assigner, inputs, "cuda"), torch.cuda.Stream()
    late = torch.full_like(predictions.boxes, 1e6), torch.zeros_like(predictions.logits)
    busy = torch.rand(4000, 4000, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(10):
            busy = busy @ busy / 4000
        late[0].copy_(predictions.boxes)
        late[1].copy_(predictions.logits)
        found = assigned(assigner, (priors, gt, Predictions(*late)), "cuda")
    torch.cuda.synchronize()
    differ = (found.gt_index != expected.gt_index).sum()  # the order of atomic additions varies
    assert differ <= 0.01 * expected.positive.sum()


def leave_assignments(path):
    """Saves the assignments of plain PyTorch, without kernels."""
    inputs = {name: scene(maps, COUNTS[name]) for name, maps in MAPS.items()}
    found = {(r, n): ASSIGNERS[r]()(*i) for r in ASSIGNERS for n, i in inputs.items()}
    torch.save({key: (x.gt_index, x.quality) for key, x in found.items()}, path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Gives {(rule, maps): assignment} from another process."""
    path = tmp_path_factory.mktemp("plain") / "assignments.pth"
    code = f"import test_rules_on_cuda as t; t.leave_assignments({str(path)!r})"
    places = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    environment = {**os.environ, "DYNAMIC_ATSS_NATIVE": "0", "PYTHONPATH": places}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return {key: Assignment(*x) for key, x in torch.load(path).items()}


@pytest.mark.parametrize("maps", MAPS)
def test_only_near_ties_may_differ(rule, maps, plain):
    """Tests the comparison with plain PyTorch on the CPU instead of the GPU."""
    assigner, inputs = ASSIGNERS[rule](), scene(MAPS[maps], COUNTS[maps])
    here, there = assigned(assigner, inputs), plain[rule, maps]
    assert_same_but_for_ties(here, there, assigner, inputs)
    wrong = replace(there, gt_index=there.gt_index.roll(1, dims=1))
    with pytest.raises(AssertionError):
        assert_same_but_for_ties(here, wrong, assigner, inputs)
