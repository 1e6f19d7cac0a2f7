import json
from pathlib import Path

import pytest
import torch
from helpers_run import TINY

from dynamic_atss.builders import (
    build_assigner,
    build_head,
    build_lr_factor,
    build_model,
    build_optimizer,
    check_config,
)
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.optim import set_lr
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.engine.weight_average import averaged_model
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch, GroundTruth

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = sorted([*CONFIGS.glob("atss/*.yaml"), *CONFIGS.glob("dynamic_atss/*.yaml")])
LISTED = [
    "dynamic_atss/dynamic_atss_R_50_FPN_1x",
    "dynamic_atss/dynamic_atss_X_101_64x4d_FPN_2x",
    "dynamic_atss/dynamic_atss_dcnv2_R_50_FPN_1x",
    "atss/atss_R_50_FPN_1x",
]
QUALITY = {"dynamic_atss": "loss_IoU", "atss": "loss_centerness"}


def build(cfg, classes=80):
    """On the meta device: names and shapes, without the memory."""
    with torch.device("meta"):
        return build_model(cfg, classes)


def ours(name: str) -> str:
    return name.replace("rpn.head.", "head.").replace("head.centerness", "head.quality")


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return lambda *overrides: load_config(tmp_path / "tiny.yaml", overrides)


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 80, 60], [10, 20, 30, 40]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]))
    sizes = torch.tensor([[64, 96], [60, 90]])
    return Batch(images, sizes, gt, (11, 12), ((64, 96), (60, 90)))


# --- the published files ---------------------------------------------------------------------


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda f: f.stem)
def test_every_published_config_builds(file):
    cfg = load_config(file)
    model = build(cfg)
    rule = "dynamic_atss" if file.stem.startswith("dynamic") else "atss"
    assert f"loss_{build_assigner(cfg, build_head(cfg)).quality_name}" == QUALITY[rule]
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["head.cls_logits.weight"] == (80, 256, 3, 3)
    assert shapes["head.bbox_pred.weight"] == (4, 256, 3, 3)
    assert shapes["backbone.fpn.top_blocks.p6.weight"] == (256, 256, 3, 3)
    depth = sum(name.endswith("conv3.weight") for name in shapes)
    assert depth == (16 if "R_50" in file.stem else 33)
    deformable = {name.split(".")[2] for name in shapes if "offset" in name and "body" in name}
    stages = ("layer3", "layer4") if "X_101" in file.stem else ("layer2", "layer3", "layer4")
    assert deformable == (set(stages) if "dcnv2" in file.stem else set())
    assert ("head.cls_tower.9.offset.weight" in shapes) == ("dcnv2" in file.stem)
    body = file.stem.split("_FPN")[0].split("_")[-1]
    groups, width = {"32x8d": (32, 256), "64x4d": (64, 256)}.get(body, (1, 64))
    name = "backbone.body.layer1.0.conv2.weight"
    assert shapes[name] == (width, width // groups, 3, 3)


@pytest.mark.parametrize("name", LISTED)
def test_names_shapes_order_and_frozen_parameters_are_the_releases(golden, name):
    text = (golden / "release_state_dicts.json").read_text()
    release = json.loads(text)[name]
    model = build(load_config(CONFIGS / f"{name}.yaml"))
    wanted = [
        (ours(key), tuple(shape), dtype)
        for key, shape, dtype in release["state_dict"]
        if "anchor_generator" not in key
    ]
    found = [
        (key, tuple(t.shape), str(t.dtype).removeprefix("torch."))
        for key, t in model.state_dict().items()
    ]
    assert found == wanted
    frozen = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [ours(key) for key in release["frozen"]]


def test_parameter_groups_and_learning_rates_are_the_releases(golden):
    text = (golden / "train" / "dynamic_atss_R_50.json").read_text()
    reference = json.loads(text)
    cfg = load_config(
        CONFIGS / "dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml",
        ["SOLVER.BASE_LR", str(reference["base_lr"])],
    )
    model = build(cfg)
    optimizer = build_optimizer(cfg, model)
    names = {id(p): key for key, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["base_lr"] / reference["base_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    rule = reference["lr_factor_and_weight_decay_per_parameter"]
    assert found == {ours(key): tuple(pair) for key, pair in rule.items()}
    assert all(group["momentum"] == reference["momentum"] for group in optimizer.param_groups)

    factor = build_lr_factor(cfg)
    for iteration in reference["iterations"]:
        set_lr(optimizer, factor(iteration["iteration"] - 1))
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        assert rates == pytest.approx(iteration["all_lrs"], rel=1e-12)


def test_schedule_of_a_published_file():
    cfg = load_config(CONFIGS / "dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml")
    factor = build_lr_factor(cfg)
    wanted = {0: 1 / 3, 499: 1 / 3, 500: 1, 59_999: 1, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01}
    assert {i: factor(i) for i in wanted} == pytest.approx(wanted)


# --- one step of many variants ----------------------------------------------------------------

VARIANTS = {
    "plain": [],
    "atss": ["MODEL.ASSIGNER.NAME", "atss"],
    "point": ["MODEL.ATSS.REGRESSION_TYPE", "POINT"],
    "three_anchors": ["MODEL.ATSS.SCALES_PER_OCTAVE", "3"],
    "three_ratios_atss": [
        *("MODEL.ATSS.ASPECT_RATIOS", "(0.5, 1, 2)"),
        *("MODEL.ASSIGNER.NAME", "atss"),
    ],
    "frozen_bn": ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "2"],
    "sync_bn_in_one_process": ["MODEL.RESNETS.NORM", "", "MODEL.USE_SYNCBN", "True"],
    "gn": [
        *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.USE_GN", "True", "MODEL.FPN.USE_RELU", "True"),
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", "32", "MODEL.RESNETS.RES2_OUT_CHANNELS", "128"),
    ],
    "dcn": [
        *("MODEL.RESNETS.STAGE_WITH_DCN", "(False, False, True, True)"),
        *("MODEL.RESNETS.WITH_MODULATED_DCN", "True", "MODEL.ATSS.USE_DCN_IN_TOWER", "True"),
    ],
    "dcn_v1": ["MODEL.RESNETS.STAGE_WITH_DCN", "(False, False, False, True)"],
    "c5": ["MODEL.RETINANET.USE_C5", "True"],
    "rgb01": ["INPUT.TO_BGR255", "False", "INPUT.PIXEL_MEAN", "(0.5, 0.5, 0.5)"],
    "channels_last": ["MODEL.CHANNELS_LAST", "True"],
    "bf16": ["DTYPE", "bfloat16"],
    "adamw": ["SOLVER.OPTIMIZER", "adamw", "SOLVER.SCHEDULE", "cosine"],
    "ema": ["SOLVER.EMA_DECAY", "0.5"],
    "accumulate": ["SOLVER.ACCUMULATE", "2"],
    "clip": ["SOLVER.CLIP_GRAD_NORM", "0.01"],
}


def train_steps(cfg, model, steps=2) -> list[dict[str, float]]:
    lines = []
    Trainer(
        model=model,
        loader=[a_batch()] * steps,
        optimizer=build_optimizer(cfg, model),
        lr_factor=build_lr_factor(cfg),
        device=torch.device("cpu"),
        save=lambda iteration: None,
        log=lines.append,
        evaluate=lambda iteration: None,
        start=0,
        stop=steps,
        ema=averaged_model(model, cfg.SOLVER.EMA_DECAY),
        clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
        log_period=1,
    ).train()
    return lines


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_step_and_a_test_of(tiny, variant):
    cfg = tiny(*VARIANTS[variant], "MODEL.ATSS.INFERENCE_TH", "0.001")
    torch.manual_seed(0)
    model = build_model(cfg, 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    lines = train_steps(cfg, model)

    quality = QUALITY[cfg.MODEL.ASSIGNER.NAME or "dynamic_atss"]
    for line in lines:
        terms = {key: line[key] for key in line if key.startswith("loss_")}
        assert set(terms) == {"loss_cls", "loss_reg", quality}
        assert all(0 < value < 100 for value in terms.values())
        assert line["loss"] == pytest.approx(sum(terms.values()))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT > 0)
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert torch.equal(parameter, before[name]) == (name in frozen), name

    model.eval()
    with torch.inference_mode():
        detections = model(a_batch())
    assert len(detections) == 2
    for found, (height, width) in zip(detections, ((64, 96), (60, 90)), strict=True):
        assert len(found) > 0
        assert found.boxes.isfinite().all() and (found.boxes >= 0).all()
        assert (found.boxes[:, 2] <= width - 1).all() and (found.boxes[:, 3] <= height - 1).all()
        assert ((found.classes >= 0) & (found.classes < 3)).all()


def test_three_scales_make_three_anchors_of_every_location(tiny):
    model = build_model(tiny("MODEL.ATSS.SCALES_PER_OCTAVE", "3"), 3)
    assert model.head.bbox_pred.out_channels == 12
    assert model.priors([(2, 2)] * 5, torch.device("cpu")).boxes.shape == (2 * 2 * 5 * 3, 4)


def test_clipping_bounds_the_step(tiny):
    """SGD's first step is lr * gradient, whose norm is at most CLIP_GRAD_NORM."""
    overrides = (
        "SOLVER.WEIGHT_DECAY",
        "0",
        "SOLVER.BIAS_LR_FACTOR",
        "1",
        "SOLVER.WARMUP_ITERS",
        "0",
    )
    cfg = tiny("SOLVER.CLIP_GRAD_NORM", "0.01", *overrides)
    torch.manual_seed(0)
    model = build_model(cfg, 3)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    train_steps(cfg, model, steps=1)
    after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (after - before).double().norm() == pytest.approx(0.01 * cfg.SOLVER.BASE_LR, rel=1e-2)


def test_the_average_follows_its_formula(tiny):
    cfg = tiny("SOLVER.EMA_DECAY", "0.75")
    torch.manual_seed(0)
    model = build_model(cfg, 3)
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY)
    first = model.head.bbox_pred.weight.detach().clone()
    average.update_parameters(model)  # the first call copies
    with torch.no_grad():
        model.head.bbox_pred.weight += 1
    average.update_parameters(model)
    torch.testing.assert_close(average.module.head.bbox_pred.weight, first + 0.25)


LEARNED_CODER = """
import torch
from torch import nn
from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.modeling.coder import DeltaCoder


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.deltas = DeltaCoder()

    def encode(self, boxes, priors):
        return self.deltas.encode(boxes, priors) - self.shift

    def decode(self, deltas, priors):
        return self.deltas.decode(deltas + self.shift, priors)


class Head(ATSSHead):
    def coder(self):
        return Learned()
"""


def test_a_coder_that_learns_is_the_one_that_decodes_detections(tiny, tmp_path):
    """This holds in the model, on another device (or dtype), and in the averaged weights."""
    (tmp_path / "head.py").write_text(LEARNED_CODER)
    cfg = tiny("MODEL.HEAD.NAME", f"{tmp_path}/head.py:Head", "SOLVER.EMA_DECAY", "0.5")
    model = build_model(cfg, 3)
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY)
    train_steps(cfg, model, steps=1)
    assert model.criterion.coder.shift != 0
    average.update_parameters(model)
    assert average.module.criterion.coder is not model.criterion.coder
    assert average.module.criterion.coder.shift == model.criterion.coder.shift
    for each in (model, average.module, model.to(torch.float64), model.to("meta")):
        assert each.postprocess.coder is each.criterion.coder
    assert model.postprocess.coder.shift.is_meta


def test_a_detector_that_only_predicts(tiny, tmp_path):
    """It has a criterion only if that contains weights of a coder, which a file must fill."""
    (tmp_path / "head.py").write_text(LEARNED_CODER)
    for head, learns in (((), False), (("MODEL.HEAD.NAME", f"{tmp_path}/head.py:Head"), True)):
        cfg = tiny(*head)
        trained, predicting = build_model(cfg, 3), build_model(cfg, 3, losses=False)
        assert trained.state_dict().keys() == predicting.state_dict().keys()
        assert (predicting.criterion is not None) is learns
        assert ("criterion.coder.shift" in predicting.state_dict()) is learns
    with pytest.raises(RuntimeError, match="only predicts"):
        train_steps(tiny(), build_model(tiny(), 3, losses=False), steps=1)


# --- what cannot be built ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.BACKBONE.CONV_BODY", "VGG-16"], "CONV_BODY"),
        (["MODEL.ASSIGNER.NAME", "atsss"], "ASSIGNER.NAME"),
        (["MODEL.RESNETS.NORM", "IN"], "NORM"),
        (["MODEL.RESNETS.NUM_GROUPS", "32"], "bottlenecks"),
        (["MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "48"], "32"),
        (["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "9"], "freeze"),
        (["MODEL.ATSS.REGRESSION_TYPE", "POINT", "MODEL.ATSS.SCALES_PER_OCTAVE", "2"], "POINT"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(tiny, overrides, message):
    cfg = tiny(*overrides)
    with pytest.raises(UserError, match=message) as caught:
        check_config(cfg)
        build_model(cfg, 3)
    assert "\n" not in str(caught.value)
