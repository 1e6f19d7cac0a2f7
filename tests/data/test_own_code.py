"""One-line errors for users' data sets and augmentations that fail or return something else."""

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
    """Returns the message of the error when the first batch of a training is read."""
    cfg = load_config(config[1], [*config[2:], *overrides])
    check_config(cfg)
    with pytest.raises(UserError) as caught:
        next(iter(build_train_loader(cfg, build_train_dataset(cfg), 0)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def users_set(tmp_path, config, name: str, body: str) -> list[str]:
    path = tmp_path / "own.py"
    path.write_text(DATASET.replace("{}", body))
    shapes = f"{config[3]}/shapes"
    name = f"{path}:{name}:{shapes}/annotations/train.json:{shapes}/train"
    return ["DATASETS.TRAIN", f"({name!r},)"]


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("name", ["Loads", "Gets"])
def test_a_data_set_that_raises(config, tmp_path, name, workers):
    overrides = users_set(tmp_path, config, name, 'raise KeyError("no such row")')
    message = first_batch(config, *overrides, "DATALOADER.NUM_WORKERS", workers)
    lines = (tmp_path / "own.py").read_text().splitlines()
    first, last = (number for number, text in enumerate(lines, 1) if "raise KeyError" in text)
    line = first if name == "Loads" else last
    assert re.match(rf"data set {name}: .*/train/\S+\.(png|jpg) cannot be loaded", message)
    assert f"KeyError: 'no such row' ({tmp_path}/own.py:{line})" in message


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("Loads", "return image", "load returns, for "),
        ("Loads", "return image", "a Tensor, not (image, gt)"),
        ("Loads", "return image.float(), gt", "an image (3, 96, 96) torch.float32"),
        ("Loads", "return image, replace(gt, classes=gt.classes + 9)", "; classes are 0 to 5"),
        ("Gets", "return image, gt", "__getitem__ returns a tuple for "),
    ],
)
def test_a_data_set_that_returns_something_else(config, tmp_path, name, body, words):
    message = first_batch(config, *users_set(tmp_path, config, name, body))
    assert message.startswith(f"data set {name}: ") and words in message


WRONG = {
    "return image": "a Tensor, not (image, gt)",
    "return image.numpy(), gt": "a ndarray in place of an image",
    "return image.float() / 255, gt": "an image (3, 96, 96) torch.float32; (3, H, W) torch.uint8",
    "return image.permute(1, 2, 0), gt": "an image (96, 96, 3) torch.uint8",
    "return image[:, :0], gt": "an image (3, 0, 96)",
    "return image, gt.boxes": "a Tensor in place of a GroundTruth",
    "return image, replace(gt, boxes=gt.boxes.double())": "torch.float64; (",
    "return image, replace(gt, boxes=gt.boxes[:, :3])": "boxes (",
    f"return image, {NO_BOX}": "classes (",
    "return image, replace(gt, boxes=gt.boxes.tolist())": "boxes as a list, not a tensor",
    "return image, replace(gt, boxes=gt.boxes / 0)": "four finite numbers",
    "return image, replace(gt, boxes=gt.boxes[:, [2, 3, 0, 1]])": "x1 <= x2, y1 <= y2",
    "return image, replace(gt, classes=gt.classes.int())": "torch.int32; (",
    "return image, replace(gt, classes=gt.classes * 0 + 6)": "class 6; classes are 0 to 5",
    "return image, replace(gt, classes=gt.classes * 0 - 1)": "class -1; classes are 0 to 5",
    "return image, replace(gt, image_index=gt.image_index + 1)": "a gt.image_index other than 0",
}


@pytest.mark.parametrize("body", WRONG)
def test_an_augmentation_that_returns_something_else(config, tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", body))
    size = ["INPUT.MIN_SIZE_TRAIN", "(96,)"]
    message = first_batch(config, *size, "INPUT.AUGMENTATIONS", f"('{path}:Change',)")
    assert re.match(rf"\S*/train/\S+: INPUT.AUGMENTATIONS '{path}:Change' gives ", message)
    assert WRONG[body] in message and "; a transform is called with (image, gt, rng)" in message


def test_the_error_of_an_augmentation_names_the_users_line(config, tmp_path):
    """The line is the user's, also if it calls another library."""
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", 'return json.loads("{"), gt'))
    message = first_batch(config, "INPUT.AUGMENTATIONS", f"('{path}:Change',)")
    assert f"{path}:Change' fails (JSONDecodeError: " in message
    line = 1 + path.read_text().splitlines().index('        return json.loads("{"), gt')
    assert f"({path}:{line})" in message


def test_a_correct_augmentation_is_applied(config, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(AUGMENTATION.replace("{}", "return image.flip(2), replace(gt, boxes=gt.boxes)"))
    overrides = ["INPUT.AUGMENTATIONS", f"('{path}:Change',)", "INPUT.FLIP_PROB_TRAIN", "0.0"]
    with_it, without = (
        build_train_dataset(load_config(config[1], [*config[2:], *chosen]))[0, 5]
        for chosen in (overrides, overrides[2:])
    )
    assert torch.equal(with_it.image, without.image.flip(2))
    assert torch.equal(with_it.gt.boxes, without.gt.boxes)


@pytest.mark.parametrize("mosaic", ["0.0", "1.0"])
def test_in_joined_sets_and_mosaics_the_image_that_failed_is_named(config, tmp_path, mosaic):
    overrides = users_set(tmp_path, config, "Loads", 'raise OSError("gone")')
    shapes = f"{config[3]}/shapes"
    good = f"coco:{shapes}/annotations/val.json:{shapes}/val"
    joined = f"({good!r}, {overrides[1][2:-3]!r})"
    message = first_batch(
        config, "DATASETS.TRAIN", joined, "INPUT.MOSAIC.PROB", mosaic, "SOLVER.IMS_PER_BATCH", "16"
    )
    assert re.match(r"data set Loads: .*/train/\S+ cannot be loaded \(OSError: gone \(", message)
