"""Augmentation by configuration: what is built and refused, and a run with all transforms."""

import shutil

import numpy as np
import pytest
import torch
from helpers_run import call_tool, load_module, read_lines, write_config

from dynamic_atss.builders import build_train_dataset, check_config
from dynamic_atss.builders.augment import build_train_transform
from dynamic_atss.config.load import load_config
from dynamic_atss.data.mosaic import MosaicDataset
from dynamic_atss.data.transforms import Compose
from dynamic_atss.errors import UserError
from dynamic_atss.types import GroundTruth

kill_and_resume = load_module("benchmarks/kill_and_resume.py")

COLORS = ["INPUT.BRIGHTNESS", "0.4", "INPUT.CONTRAST", "0.4", "INPUT.SATURATION", "0.4"]
COLORS += ["INPUT.HUE", "0.1"]
CROP = ["INPUT.CROP.PROB", "0.5"]
LSJ = ["INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.SIZE", "(96, 64)"]
MOSAIC = ["INPUT.MOSAIC.PROB", "0.5", "INPUT.MOSAIC.OFF_AT_END", "0.2"]
NONE = torch.zeros(0, dtype=torch.int64)
EMPTY = GroundTruth(torch.zeros(0, 4), NONE, NONE)
ALL = [*COLORS, *CROP, *LSJ, *MOSAIC]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


def names(overrides):
    steps = build_train_transform(load_config(overrides=overrides)).transforms
    return [type(step).__name__ for step in steps]


def test_order_and_off_by_default(config):
    flips = ["HorizontalFlip", "VerticalFlip"]
    assert names([]) == ["Resize", *flips]
    assert names([*COLORS, *CROP]) == ["RandomCrop", "Resize", "ColorJitter", *flips]
    assert names(ALL) == ["RandomCrop", "LargeScaleJitter", "ColorJitter", "Pad", *flips]
    plain = build_train_dataset(load_config(config[1], config[2:]))
    assert not isinstance(plain, MosaicDataset)


@pytest.mark.parametrize(
    ("overrides", "fill"),
    [
        ([], (123, 116, 103)),
        (
            ["INPUT.TO_BGR255", "False", "INPUT.PIXEL_MEAN", "[0.485, 0.456, 0.406]"],
            (124, 116, 104),
        ),
    ],
)
def test_padding_is_the_mean_colour(overrides, fill):
    """Colours change before the padding is added, so they cannot change it."""
    small = ["INPUT.LSJ.SCALE", "(0.5, 0.5)", "INPUT.FLIP_PROB_TRAIN", "0.0"]
    transform = build_train_transform(load_config(overrides=[*COLORS, *LSJ, *small, *overrides]))
    image = torch.full((3, 96, 64), 200, dtype=torch.uint8)
    for seed in range(5):
        out, _ = transform(image, EMPTY, np.random.default_rng(seed))
        assert out.shape == (3, 96, 64) and (out[:, :48, :32] != 200).any()
        padding = torch.cat([out[:, 48:].flatten(1), out[:, :48, 32:].flatten(1)], dim=1)
        assert (padding == torch.tensor(fill)[:, None]).all()


def test_colours_change_the_pixels_that_are_left():
    """They change the resized image, so the cost does not depend on the size of the file."""
    steps = build_train_transform(load_config(overrides=["INPUT.CONTRAST", "0.5"])).transforms
    seen = []
    steps[1].changes = [(lambda image, _: seen.append(tuple(image.shape)) or image, (1, 1))]
    Compose(steps)(torch.zeros(3, 300, 400, dtype=torch.uint8), EMPTY, np.random.default_rng(0))
    assert seen == [(3, 800, 1066)]


def test_mosaics_end_before_the_training_does(config):
    cfg = load_config(config[1], [*config[2:], *MOSAIC, "SOLVER.MAX_ITER", "50"])
    assert build_train_dataset(cfg).stop == 40 * 4  # iterations x images


REFUSED = {
    "negative": (["INPUT.HUE", "-0.1"], "INPUT.HUE -0.1: at least 0"),
    "hue": (["INPUT.HUE", "0.6"], "INPUT.HUE 0.6: at most 0.5"),
    "order": (["INPUT.CROP.SIDE", "(0.9, 0.1)"], "INPUT.CROP.SIDE (0.9, 0.1): give (low, high)"),
    "nothing": (["INPUT.CROP.SIDE", "(0.0, 1.0)"], "INPUT.CROP.SIDE (0.0, 1.0): above 0"),
    "scale": (["INPUT.LSJ.SCALE", "(2.0, 0.1)"], "INPUT.LSJ.SCALE (2.0, 0.1): give (low, high)"),
    "size": (["INPUT.LSJ.SIZE", "(64,)"], "INPUT.LSJ.SIZE (64,): give 2 entries"),
    "prob": (["INPUT.MOSAIC.PROB", "1.5"], "INPUT.MOSAIC.PROB 1.5: at most 1"),
    "not a number": (["INPUT.MIN_VISIBLE", "1e999"], "INPUT.MIN_VISIBLE inf"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, config):
    overrides, message = REFUSED[case]
    with pytest.raises(UserError) as error:
        check_config(load_config(config[1], overrides))
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_a_run_with_everything_on_resumes_bitwise_the_same(config, tmp_path, monkeypatch):
    complete, resumed = tmp_path / "complete", tmp_path / "resumed"
    args = [*config, *ALL, "OUTPUT_DIR"]
    assert call_tool(monkeypatch, "train_net", [*args, complete]) == 0
    assert all(0 < line["loss"] < 100 for line in read_lines(complete) if "loss" in line)
    resumed.mkdir()
    for name in ("model_0000002.pth", "metrics.jsonl", "config.yaml"):
        shutil.copy(complete / name, resumed)
    (resumed / "last_checkpoint").write_text("model_0000002.pth")
    workers = ["--resume", "DATALOADER.NUM_WORKERS", 2]
    assert call_tool(monkeypatch, "train_net", [*args, resumed, *workers]) == 0
    assert "after iteration 2" in (resumed / "log.txt").read_text()
    assert not kill_and_resume.differences(complete, resumed)


def test_it_changes_what_is_trained_on(config, tmp_path, monkeypatch):
    losses = []
    for number, options in enumerate(([], ALL)):
        out = tmp_path / str(number)
        args = [*config, *options, "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 2, "--skip-test"]
        assert call_tool(monkeypatch, "train_net", args) == 0
        losses.append(read_lines(out)[-1]["loss"])
    assert losses[0] != losses[1]
