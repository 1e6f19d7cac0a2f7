"""Every YAML file under configs/ builds, trains one step and tests one image."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dynamic_atss.builders import build_model, build_optimizer, check_config
from dynamic_atss.config.load import load_config
from dynamic_atss.types import Batch, Detections, GroundTruth
from dynamic_atss.weights.pip import PACKAGES
from dynamic_atss.weights.pip import PREFIX as PIP
from dynamic_atss.weights.pixels import given_pixels, timm_pixels
from dynamic_atss.weights.urls import weight_url

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))
CLASSES = 80
COUNTS = {"dynamic_atss": 10, "atss": 10, "fcos": 19, "retinanet": 5, "dsla": 4}


def batch():
    """Two images of 64 x 96 pixels; the second one has no boxes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 6, 60, 50], [30, 10, 90, 60]])
    gt = GroundTruth(boxes, torch.tensor([3, 70]), torch.tensor([0, 0]))
    sizes = torch.tensor([[64, 96], [60, 90]])
    return Batch(images, sizes, gt, (1, 2), ((64, 96), (60, 90)))


def test_every_published_file_is_here():
    for folder, count in COUNTS.items():
        assert sum(name.startswith(f"{folder}/") for name in FILES) == count


@pytest.mark.parametrize("name", FILES)
def test_the_weights_are_in_the_catalog(name):
    weight = load_config(FOLDER / name).MODEL.WEIGHT
    if weight.startswith(PIP):
        assert weight.removeprefix(PIP) in PACKAGES
    else:
        assert not weight or weight_url(weight).startswith("https://")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_one_step_of_training_and_of_testing(name):
    cfg = load_config(FOLDER / name)
    if cfg.MODEL.BACKBONE.CONV_BODY.startswith("timm/"):
        pytest.importorskip("timm")
    check_config(cfg)
    torch.manual_seed(0)
    model = build_model(cfg, CLASSES)
    assert not any(p.isnan().any() for p in model.parameters())
    for name, scale in model.named_buffers():  # without weights a deep body would overflow
        if name.endswith("bn3.weight"):
            scale.fill_(0.2)
    optimizer = build_optimizer(cfg, model)
    model.train()
    losses = model(batch()).losses
    first = [name.rpartition("/")[2].replace("retina_", "") for name in losses][:2]
    assert first == ["loss_cls", "loss_reg"]
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert model.head.cls_logits.weight.grad.abs().sum() > 0
    optimizer.step()
    nn.init.zeros_(model.head.cls_logits.bias)  # something is found
    model.eval()
    with torch.inference_mode():
        found = model(batch())
    assert len(found) == 2 and all(isinstance(x, Detections) for x in found)
    assert all(0 < len(x) <= 100 and x.boxes.isfinite().all() for x in found)


def test_paa_has_the_values_of_its_release():
    model = build_model(load_config(FOLDER / "rules/paa_R_50_FPN_1x.yaml"), CLASSES)
    weights = model.criterion.box_weight, model.criterion.quality_weight
    assert weights == (1.3, 0.5)
    assert model.postprocess.score_voting
    other = build_model(load_config(FOLDER / "rules/atss_R_50_FPN_1x.yaml"), CLASSES)
    assert (other.criterion.quality_weight, other.postprocess.score_voting) == (1.0, False)


def test_the_file_for_own_data_suits_its_weights():
    cfg = load_config(FOLDER / "quickstart/own_data.yaml")
    package = PACKAGES[cfg.MODEL.WEIGHT.removeprefix(PIP)]
    assert package.body == cfg.MODEL.BACKBONE.CONV_BODY and cfg.MODEL.WEIGHT_OPTIONAL
    assert cfg.DATASETS.KEEP_EMPTY
    assert cfg.INPUT.FLIP_PROB_TRAIN == 0.5 and cfg.INPUT.VERTICAL_FLIP_PROB_TRAIN == 0
    pytest.importorskip("timm")
    assert given_pixels(model := build_model(cfg, 3)) == timm_pixels(model).settings()


def published(golden, file):
    return json.loads((golden / file).read_text())


def on_meta(name):
    with torch.device("meta"):
        return build_model(load_config(FOLDER / f"{name}.yaml"), CLASSES)


def numbers(entries):
    return sum(torch.Size(shape).numel() for _, shape, *_ in entries)


def test_as_many_numbers_as_the_published_checkpoints(golden):
    """Counts backbone and head only, as the releases also save their anchors."""
    for name, entries in published(golden, "release_state_dicts.json").items():
        state = on_meta(name).state_dict()
        wanted = [e for e in entries["state_dict"] if "anchor_generator" not in e[0]]
        assert sum(value.numel() for value in state.values()) == numbers(wanted), name


@pytest.mark.parametrize(
    "name, entry",
    [("dsla/dsla_R_50_FPN_1x", "r50_as_logged"), ("dsla/dsla_dcn_R_101_FPN_2x", "r101_as_logged")],
)
def test_as_many_numbers_as_the_published_dsla(golden, name, entry):
    """mmdetection counts the weights of batch norms as parameters; frozen ones are buffers here."""
    wanted = published(golden, "dsla_state_dicts.json")[entry]
    model = on_meta(name)
    values = {n: v for n, v in model.state_dict().items() if "num_batches" not in n}
    counted = [e for e in wanted["entries"] if "num_batches" not in e[0]]
    assert sum(v.numel() for v in values.values()) == numbers(counted)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learning == wanted["num_trainable"]


def test_statistics_stay_where_only_the_weights_learn():
    """The R-101 of DSLA learns the weights of its batch norms and keeps their statistics."""
    model = build_model(load_config(FOLDER / "dsla/dsla_dcn_R_101_FPN_2x.yaml"), 1)
    norm = model.backbone.body.layer2[0].bn1
    assert isinstance(norm, nn.BatchNorm2d) and norm.weight.requires_grad
    model.train()
    assert not norm.training
