"""Compares a detector on a GPU and on the CPU: coders, post-processing, the network."""

import warnings
from copy import deepcopy

import pytest
import torch
from helpers_run import TINY

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.builders import build_model, build_optimizer
from dynamic_atss.config.load import load_config
from dynamic_atss.modeling.coder import DeltaCoder, DistanceCoder
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import Batch, GroundTruth, to_device

pytestmark = pytest.mark.cuda
CPU, GPU = torch.device("cpu"), torch.device("cuda")
MAPS = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
PRIORS = AnchorGenerator((8, 16, 32, 64, 128), (64, 128, 256, 512, 1024))(MAPS, CPU)
CODERS = {
    "deltas": DeltaCoder(),
    "distances": DistanceCoder(1.0),
    "pixels": DistanceCoder(None),
}
PATIENT = [name for name, rule in ASSIGNERS.items() if not getattr(rule, "waits", False)]


@pytest.fixture(autouse=True)
def full_precision():
    """Uses float32 for convolutions, not TF32 with its 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", CODERS)
def test_coders(name):
    coder, generator = CODERS[name], torch.Generator().manual_seed(0)
    deltas = torch.randn(2, len(PRIORS), 4, generator=generator)
    here = coder.decode(deltas, PRIORS.boxes)
    there = coder.decode(deltas.cuda(), PRIORS.boxes.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-3)
    boxes = here.abs() + torch.tensor([0.0, 0, 2000, 2000])
    encoded = coder.encode(boxes.cuda(), PRIORS.boxes.cuda()).cpu()
    torch.testing.assert_close(encoded, coder.encode(boxes, PRIORS.boxes), rtol=1e-4, atol=1e-3)


def head_output(images=2):
    """Makes an output like a trained detector's, with one candidate in about 200 scores."""
    generator = torch.Generator().manual_seed(1)
    shape = images, len(PRIORS)
    logits = torch.randn(*shape, 20, generator=generator) - 5.5
    deltas, quality = (
        torch.randn(*shape, 4, generator=generator),
        torch.randn(shape, generator=generator),
    )
    return HeadOutput(logits, deltas, quality, MAPS)


def moved(output):
    """Moves tensors to the GPU."""
    return output._replace(
        **{k: getattr(output, k).cuda() for k in ("logits", "deltas", "quality")}
    )


SIZES = torch.tensor([[800, 1344], [700, 1100]])


@pytest.mark.parametrize("by_location", [False, True])
def test_post_processing(by_location):
    process = PostProcess(DeltaCoder(), by_location=by_location)
    output = head_output()
    here = process(output, PRIORS, SIZES)
    there = process(moved(output), to_device(PRIORS, GPU), SIZES.cuda())
    for a, b in zip(here, there, strict=True):
        assert b.boxes.is_cuda and len(a) == len(b) == 100
        torch.testing.assert_close(b.scores.cpu(), a.scores, rtol=1e-4, atol=1e-6)
        apart = a.scores.diff().abs().clamp(max=1) > 1e-5  # nearly equal ones may change places
        sure = torch.cat((apart, apart[:1])) & torch.cat((apart[:1], apart))
        assert sure.sum() > 50
        assert torch.equal(b.classes.cpu()[sure], a.classes[sure])
        torch.testing.assert_close(b.boxes.cpu()[sure], a.boxes[sure], rtol=1e-4, atol=0.05)


def waits(call):
    """Counts how often the CPU waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


def test_post_processing_waits_once_a_batch():
    process, sizes = PostProcess(DeltaCoder()), SIZES.cuda()
    output, priors = moved(head_output()), to_device(PRIORS, GPU)
    process(output, priors, sizes)
    assert waits(lambda: process(output, priors, sizes)) == 1


def test_candidates_and_selection_wait_for_nothing():
    process, sizes = PostProcess(DeltaCoder()), SIZES.cuda()
    output, priors = moved(head_output()), to_device(PRIORS, GPU)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, _ = process.candidates(output, priors, sizes)
        process.select(found, sizes, ())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_detections():
    output = head_output()
    output.logits.fill_(-100.0)
    found = PostProcess(DeltaCoder())(moved(output), to_device(PRIORS, GPU), SIZES.cuda())
    assert [len(one) for one in found] == [0, 0]


def a_batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (3, 3, 96, 128), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 110, 90], [10, 20, 30, 41]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 2]))  # image 1 is empty
    sizes = ((96, 128), (90, 100), (96, 120))
    return Batch(images, torch.tensor(sizes), gt, (1, 2, 3), sizes)


@pytest.fixture
def tiny(tmp_path):
    """Makes a configuration and a model. The norms use no batch statistics, which would spread
    rounding differences to all images."""
    (tmp_path / "tiny.yaml").write_text(TINY)

    def make(rule):
        overrides = ["MODEL.ASSIGNER.NAME", rule, "MODEL.RESNETS.NORM", "FrozenBN"]
        cfg = load_config(tmp_path / "tiny.yaml", overrides)
        torch.manual_seed(3)
        return cfg, build_model(cfg, 3).train()

    return make


@pytest.mark.parametrize("rule", PATIENT)
def test_a_train_step_waits_for_nothing(tiny, rule):
    cfg, model = tiny(rule)
    model.cuda()
    optimizer, batch = build_optimizer(cfg, model), to_device(a_batch(), GPU)

    def step():
        sum(model(batch).losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # creates priors and momenta
    assert waits(step) == 0


@pytest.mark.parametrize(
    "dtype, tolerance", [("float32", 1e-4), ("bfloat16", 5e-2), ("float16", 1e-2)]
)
def test_the_network_gives_what_the_cpu_gives_in_float32(tiny, dtype, tolerance):
    _, model = tiny("dynamic_atss")
    there = deepcopy(model).eval().cuda()
    there.autocast = None if dtype == "float32" else getattr(torch, dtype)
    outputs = []
    for network in (model.eval(), there):
        network.head.register_forward_hook(lambda *call: outputs.append(call[-1]))
    with torch.inference_mode():
        model(a_batch())
        detections = there(to_device(a_batch(), GPU))
    assert len(detections) == 3 and all(one.scores.isfinite().all() for one in detections)
    here, found = outputs
    for name in ("logits", "deltas", "quality"):
        a, b = getattr(here, name), getattr(found, name).cpu()
        assert b.dtype == torch.float32
        assert (a - b).norm() <= tolerance * a.norm(), name
