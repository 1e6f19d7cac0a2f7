"""Compares losses and gradients of a training step on a GPU with those of the CPU in float32.

Float32 takes the labels that each device assigns. The other dtypes change the predictions, and so
the labels. They take the labels of float32, so that only losses and gradients are compared. Without
a GPU, another layout of the images takes its place on the CPU, with other convolutions.
"""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from helpers_run import TINY

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.builders import build_model
from dynamic_atss.builders.heads import HEADS
from dynamic_atss.config.load import load_config
from dynamic_atss.types import Batch, GroundTruth, to_device

SCALE = 1024.0  # of the loss, as a gradient scaler has: float16 ends at 6e-8
# Tolerances of a loss, of the median and of the largest error of a parameter's gradient, relative
# to its norm. Each convolution rounds to 8 or 11 bits, and a ReLU near 0 then passes another
# gradient. On a CPU the largest error was 0.38 in bfloat16 and 0.31 in float16, with medians of
# 0.012 and 0.0018 (retinanet: 0.1 and 0.02), and losses were off by 2e-3 and 7e-4.
CLOSE = {
    "float32": (1e-3, 2e-3, 1e-2),
    "float16": (5e-3, 0.05, 0.7),
    "bfloat16": (2e-2, 0.2, 0.7),
}
PAIRS = [
    *((head, rule, "float32") for head in HEADS for rule in ASSIGNERS),
    *((head, None, dtype) for head in HEADS for dtype in ("bfloat16", "float16")),
    *(("atss", rule, dtype) for rule in ASSIGNERS for dtype in ("bfloat16", "float16")),
]
# A CPU compares two memory formats, which tests the comparison itself: every rule or every head.
CASES = [
    *(pytest.param(*pair, "cuda", marks=pytest.mark.cuda) for pair in PAIRS),
    *((*pair, "cpu") for pair in PAIRS if pair[1] is None or pair[::2] == ("atss", "float32")),
]


@pytest.fixture(autouse=True)
def full_precision():
    """Uses float32 for convolutions, not TF32 with its 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


class Fixed(torch.nn.Module):
    """Gives the answer of an earlier call of `rule`, without its gradient, on any device."""

    def __init__(self, rule):
        super().__init__()
        self.quality_name, self.soft_labels = rule.quality_name, rule.soft_labels
        self.rule, self.answer = rule, None

    def forward(self, priors, gt, predictions):
        if self.answer is None:
            found = self.rule(priors, gt, predictions)
            fields = ("gt_index", "quality", "weight", "negative", "divisors")
            values = {name: getattr(found, name) for name in fields}
            values = {name: x.detach() for name, x in values.items() if x is not None}
            self.answer = replace(found, losses={}, metrics={}, **values)
        return to_device(self.answer, priors.boxes.device)


def a_batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (3, 3, 96, 128), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 110, 90], [10, 20, 30, 41]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 2]))  # image 1 is empty
    sizes = ((96, 128), (90, 100), (96, 120))
    return Batch(images, torch.tensor(sizes), gt, (1, 2, 3), sizes)


def a_model(folder, head, rule):
    """Makes a model whose norms use no batch statistics, which would spread rounding differences to
    all images."""
    (folder / "tiny.yaml").write_text(TINY)
    overrides = [
        "MODEL.ATSS_ON",
        "False",
        "MODEL.HEAD.NAME",
        head,
        "MODEL.RESNETS.NORM",
        "FrozenBN",
    ]
    overrides += ["MODEL.ASSIGNER.NAME", rule] if rule else []
    cfg = load_config(folder / "tiny.yaml", overrides)
    torch.manual_seed(3)
    return build_model(cfg, 3).train()


def losses_and_gradients(model, device):
    losses = model(to_device(a_batch(), device)).losses.items()
    (SCALE * sum(x for _, x in losses)).backward()
    gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return {k: v.item() for k, v in losses}, gradients


def assert_close(here, there, dtype):
    of_loss, median, largest = CLOSE[dtype]
    (losses, gradients), (found, theirs) = here, there
    assert found == pytest.approx(losses, rel=of_loss, abs=1e-5)
    assert gradients.keys() == theirs.keys()
    floor = 1e-3 * max(g.norm() for g in gradients.values())  # only noise, before a GroupNorm
    errors = {n: (theirs[n] - g).norm() / g.norm().clamp(min=floor) for n, g in gradients.items()}
    assert torch.stack(list(errors.values())).median() <= median
    assert {n: e.item() for n, e in errors.items() if e > largest} == {}


@pytest.mark.slow
@pytest.mark.parametrize("head, rule, dtype, device", CASES)
def test_losses_and_gradients(tmp_path, head, rule, dtype, device):
    model = a_model(tmp_path, head, rule)
    if dtype != "float32":
        model.criterion.assigner = Fixed(model.criterion.assigner)
        with torch.no_grad():
            model(a_batch())
    there = deepcopy(model).to(device)
    there.autocast = None if dtype == "float32" else getattr(torch, dtype)
    if device == "cpu":
        there = there.to(memory_format=torch.channels_last)
        there.memory_format = torch.channels_last
    here, found = (losses_and_gradients(m, d) for m, d in ((model, "cpu"), (there, device)))
    assert max(here[0].values()) > 0
    assert_close(here, found, dtype)
    wrong = found[0], {name: -g for name, g in found[1].items()}
    with pytest.raises(AssertionError):
        assert_close(here, wrong, dtype)
