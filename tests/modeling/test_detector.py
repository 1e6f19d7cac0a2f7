"""Tests the detector from uint8 images to losses and detections."""

import pytest
import torch
from helpers_rounding import assert_apart
from torch import nn

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.criterion import Criterion
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import DenseHead
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import Batch, GroundTruth

MEAN = (102.9801, 115.9465, 122.7717)  # published: blue, green, red


class Backbone(nn.Module):
    """Gives two levels of 32 channels with strides 8 and 16."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 8, stride=8)
        self.second = nn.Conv2d(32, 32, 2, stride=2)

    def forward(self, images):
        x = self.first(images / 50)
        return [x, self.second(x)]


def make_detector(**kwargs):
    torch.manual_seed(0)
    coder = DeltaCoder()
    return Detector(
        Backbone(),
        DenseHead(32, 3, num_levels=2, num_convs=1, prior_prob=0.3),
        AnchorGenerator((8, 16), (64, 128)),
        Criterion(ASSIGNERS["dynamic_atss"](), coder, lambda totals: totals),
        PostProcess(coder),
        **{"pixel_mean": MEAN, "pixel_std": (1.0, 1.0, 1.0)} | kwargs,
    )


def make_batch(sizes=((64, 96), (64, 96)), height=64, width=96):
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (len(sizes), 3, height, width), generator=generator)
    gt = GroundTruth(
        torch.tensor([[5.0, 5, 40, 50], [30, 10, 90, 60], [8, 8, 30, 30]]),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 0, len(sizes) - 1]),
    )
    ids = tuple(range(len(sizes)))
    return Batch(images.to(torch.uint8), torch.tensor(sizes), gt, ids, tuple(sizes))


def test_normalize_is_bgr_minus_the_mean():
    images = torch.tensor([10, 20, 200], dtype=torch.uint8).view(1, 3, 1, 1)  # red, green, blue
    pixels = make_detector().normalize(images, torch.tensor([[1, 1]]))
    assert pixels.dtype == torch.float32
    expected = [200 - 102.9801, 20 - 115.9465, 10 - 122.7717]
    assert pixels.flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_normalize_to_rgb_between_zero_and_one():
    """Mean and deviation are ImageNet's usual ones, for RGB in 0..1."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    detector = make_detector(bgr255=False, pixel_mean=mean, pixel_std=std)
    images = torch.tensor([10, 20, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    pixels = detector.normalize(images, torch.tensor([[1, 1]])).flatten().tolist()
    values = zip((10, 20, 200), mean, std, strict=True)
    assert pixels == pytest.approx([(v / 255 - m) / s for v, m, s in values], rel=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_padding_is_zero_and_not_minus_zero(channels_last):
    """A product with a mask would give -0 where the mean is above the pixel."""
    sizes = torch.tensor([[3, 5], [4, 2]])
    images = torch.zeros(2, 3, 4, 6, dtype=torch.uint8)
    pixels = make_detector(channels_last=channels_last).normalize(images, sizes)
    for n, (height, width) in enumerate(sizes.tolist()):
        assert (pixels[n, :, :height, :width] < -100).all()
        for padding in (pixels[n, :, height:], pixels[n, :, :, width:]):
            assert (padding == 0).all()
            assert not padding.signbit().any()


def test_a_batch_is_its_images():
    detector, batch = make_detector().eval(), make_batch()
    with torch.inference_mode():
        together = detector(batch)
        for n, found in enumerate(together):
            part = Batch(batch.images[n : n + 1], batch.sizes[n : n + 1], batch.gt, (n,), ())
            (alone,) = detector(part)
            assert len(found) == len(alone) > 0
            torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
            assert_apart(alone.scores)  # the batch size changes the order of sums in convolutions
            assert torch.equal(found.classes, alone.classes)


def test_what_lies_under_the_padding_does_not_matter():
    detector, batch = make_detector().eval(), make_batch(sizes=((50, 70), (64, 96)))
    other = batch.images.clone()
    other[0, :, 50:] = 77
    other[0, :, :, 70:] = 99
    changed = Batch(other, batch.sizes, batch.gt, batch.image_ids, batch.original_sizes)
    for a, b in zip(detector(batch), detector(changed), strict=True):
        assert torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)


def test_training_gives_losses_that_reach_every_parameter():
    detector = make_detector().train()
    losses = detector(make_batch()).losses
    assert list(losses) == ["loss_cls", "loss_reg", "loss_IoU"]
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_training_after_testing_at_the_same_size():
    """The cached priors were made in inference mode."""
    detector, batch = make_detector(), make_batch()
    with torch.inference_mode():
        detector.eval()(batch)
    sum(detector.train()(batch).losses.values()).backward()


@pytest.mark.parametrize("settings", [{"autocast": torch.bfloat16}, {"channels_last": True}])
def test_faster_forms_give_about_the_same(settings):
    plain, batch = make_detector()(make_batch()).losses, make_batch()
    other = make_detector(**settings)(batch).losses
    for name in plain:
        assert other[name].item() == pytest.approx(plain[name].item(), rel=0.05), name


def test_pixel_statistics_are_not_in_the_checkpoint():
    assert not {"mean", "std"} & make_detector().state_dict().keys()
