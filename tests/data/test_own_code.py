"""Data sets and augmentations of the user's that fail or give something else: one line each."""

import re

import pytest
import torch
from helpers_run import write_config

from dynamic_atss.builders import build_train_dataset, build_train_loader, check_config
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError

HEAD = """
import json
import torch
from dataclasses import replace
from dynamic_atss.data.coco import CocoDataset

"""
DATASET = (
    HEAD
    + """
class Loads(CocoDataset):
    def load(self, index):
        image, gt = super().load(index)
        return self.broken(image, gt)

    def broken(self, image, gt):
        {}

class Gets(CocoDataset):
    def __getitem__(self, key):
        sample = super().__getitem__(key)
        image, gt = sample.image, sample.gt
        {}
"""
)
AUGMENTATION = (
    HEAD
    + """
class Change:
    def __call__(self, image, gt, rng):
        {}
"""
)
NO_BOX = "replace(gt, boxes=gt.boxes[:0])"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


def first_batch(config, *overrides: str) -> str:
    """What is told when the first batch of a training is read."""
    cfg = load_config(config[1], [*config[2:], *overrides])
    check_config(cfg)
    with pytest.raises(UserError) as caught:
        next(iter(build_train_loader(cfg, build_train_dataset(cfg), 0)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def own_set(tmp_path, config, name: str, body: str) -> list[str]:
    path = tmp_path / "own.py"
    path.write_text(DATASET.replace("{}", body))
    shapes = f"{config[3]}/shapes"
    name = f"{path}:{name}:{shapes}/annotations/train.json:{shapes}/train"
    return ["DATASETS.TRAIN", f"({name!r},)"]


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("name", ["Loads", "Gets"])
def test_a_data_set_that_raises(config, tmp_path, name, workers):
    own = own_set(tmp_path, config, name, 'raise KeyError("no such row")')
    told = first_batch(config, *own, "DATALOADER.NUM_WORKERS", workers)
    lines = (tmp_path / "own.py").read_text().splitlines()
    first, last = (number for number, text in enumerate(lines, 1) if "raise KeyError" in text)
    line = first if name == "Loads" else last
    assert re.match(rf"data set {name}: .*/train/\S+\.(png|jpg) ", told)
    assert f"KeyError: 'no such row' ({tmp_path}/own.py:{line})" in told


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("Loads", "return image", "load gives a Tensor, not (image, gt)"),
        ("Loads", "return image.float(), gt", "load gives an image of shape"),
        ("Loads", "return image, replace(gt, classes=gt.classes + 9)", "; classes are 0 to 5"),
        ("Gets", "return image, gt", "it gives a tuple, not a Sample"),
    ],
)
def test_a_data_set_that_gives_something_else(config, tmp_path, name, body, words):
    told = first_batch(config, *own_set(tmp_path, config, name, body))
    assert told.startswith(f"data set {name}: for ") and words in told


WRONG = {
    "return image": "a Tensor, not (image, gt)",
    "return image.numpy(), gt": "a ndarray in place of an image",
    "return image.float() / 255, gt": "an image of shape (3, 96, 96) and torch.float32",
    "return image.permute(1, 2, 0), gt": "an image of shape (96, 96, 3) and torch.uint8",
    "return image[:, :0], gt": "an image of shape (3, 0, 96)",
    "return image, gt.boxes": "a Tensor in place of a GroundTruth",
    "return image, replace(gt, boxes=gt.boxes.double())": "and torch.float64, where",
    "return image, replace(gt, boxes=gt.boxes[:, :3])": "boxes of shape",
    f"return image, {NO_BOX}": "classes of shape",
    "return image, replace(gt, boxes=gt.boxes.tolist())": "boxes as a list, not a tensor",
    "return image, replace(gt, boxes=gt.boxes / 0)": "four finite numbers",
    "return image, replace(gt, boxes=gt.boxes[:, [2, 3, 0, 1]])": "x1 <= x2, y1 <= y2",
    "return image, replace(gt, classes=gt.classes.int())": "and torch.int32, where",
    "return image, replace(gt, classes=gt.classes * 0 + 6)": "class 6; classes are 0 to 5",
    "return image, replace(gt, classes=gt.classes * 0 - 1)": "class -1; classes are 0 to 5",
    "return image, replace(gt, image=gt.image + 1)": "a gt.image other than 0",
}


@pytest.mark.parametrize("body", WRONG)
def test_an_augmentation_that_gives_something_else(config, tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", body))
    size = ["INPUT.MIN_SIZE_TRAIN", "(96,)"]
    told = first_batch(config, *size, "INPUT.AUGMENTATIONS", f"('{path}:Change',)")
    assert re.match(rf"\S*/train/\S+: INPUT.AUGMENTATIONS '{path}:Change' gives ", told)
    assert WRONG[body] in told and "; a transform is called with (image, gt, rng)" in told


def test_an_augmentation_that_raises_names_the_line_below_it(config, tmp_path):
    """Also where the user's line calls what is not the user's."""
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", 'return json.loads("{"), gt'))
    told = first_batch(config, "INPUT.AUGMENTATIONS", f"('{path}:Change',)")
    assert f"{path}:Change' fails (JSONDecodeError: " in told
    line = 1 + path.read_text().splitlines().index('        return json.loads("{"), gt')
    assert f"({path}:{line})" in told


def test_what_fits_is_left_as_it_is(config, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", "return image.flip(2), replace(gt, boxes=gt.boxes)"))
    own = ["INPUT.AUGMENTATIONS", f"('{path}:Change',)", "INPUT.FLIP_PROB_TRAIN", "0.0"]
    with_it, without = (
        build_train_dataset(load_config(config[1], [*config[2:], *more]))[0, 5]
        for more in (own, own[2:])
    )
    assert torch.equal(with_it.image, without.image.flip(2))
    assert torch.equal(with_it.gt.boxes, without.gt.boxes)


@pytest.mark.parametrize("mosaic", ["0.0", "1.0"])
def test_in_joined_sets_and_mosaics_the_image_that_failed_is_named(config, tmp_path, mosaic):
    own = own_set(tmp_path, config, "Loads", 'raise OSError("gone")')
    shapes = f"{config[3]}/shapes"
    good = f"coco:{shapes}/annotations/val.json:{shapes}/val"
    joined = f"({good!r}, {own[1][2:-3]!r})"
    told = first_batch(
        config, "DATASETS.TRAIN", joined, "INPUT.MOSAIC.PROB", mosaic, "SOLVER.IMS_PER_BATCH", "16"
    )
    assert re.match(r"data set Loads: .*/train/\S+ cannot be loaded \(OSError: gone \(", told)
