"""Regions to ignore by their key, from the annotation file to the losses and the scores."""

import json
from pathlib import Path

import pytest
import torch
from helpers_run import TINY, call_tool, read_lines

from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.builders import (
    build_assigner,
    build_head,
    build_model,
    build_train_dataset,
    build_train_loader,
)
from dynamic_atss.config.load import load_config
from dynamic_atss.data.shapes import make_shapes

ON = ("MODEL.ASSIGNER.IGNORE_REGIONS", "True")
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Generated images; every second box is flagged, and in another file it is not there."""
    folder = tmp_path_factory.mktemp("regions")
    make_shapes(folder / "shapes", train=8, val=4, size=96)
    (folder / "tiny.yaml").write_text(TINY)
    content = json.loads((folder / "shapes/annotations/train.json").read_text())
    boxes = content["annotations"]
    flagged = [{**a, "ignore": i % 2} for i, a in enumerate(boxes)]
    write(folder / "flagged.json", {**content, "annotations": flagged})
    write(folder / "without.json", {**content, "annotations": boxes[::2]})
    return folder


def write(path, content):
    path.write_text(json.dumps(content))


def config(folder, name, *more):
    train = f"('coco:{folder / name}.json:{folder / 'shapes/train'}',)"
    return load_config(str(folder / "tiny.yaml"), ["DATASETS.TRAIN", train, *more])


def first_losses(cfg):
    torch.manual_seed(0)
    dataset = build_train_dataset(cfg)
    batch = next(iter(build_train_loader(cfg, dataset, 0)))
    model = build_model(cfg, len(dataset.class_names)).train()
    return batch, model(batch).losses


def test_the_order_of_the_wrappers(folder):
    off = config(folder, "flagged")
    assert not isinstance(build_assigner(off, build_head(off)), IgnoreRegions)
    on = config(folder, "flagged", *ON, "MODEL.ASSIGNER.AT_LEAST_ONE", "True")
    rule = build_assigner(on, build_head(on))
    assert isinstance(rule, IgnoreRegions) and isinstance(rule.rule, AtLeastOne)


def test_off_in_the_configs():
    files = list(CONFIGS.rglob("*.yaml"))
    assert len(files) > 20
    assert not any("IGNORE_REGIONS" in path.read_text() for path in files)


def test_off_flagged_boxes_are_as_if_they_were_not_there(folder):
    (one, losses), (other, expected) = (
        first_losses(config(folder, name)) for name in ("flagged", "without")
    )
    assert one.gt.ignore is None and torch.equal(one.gt.boxes, other.gt.boxes)
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in losses)


def test_on_they_are_no_background(folder):
    off, losses = first_losses(config(folder, "flagged"))
    on, fewer = first_losses(config(folder, "flagged", *ON))
    assert torch.equal(on.gt.objects.boxes, off.gt.boxes) and len(on.gt.regions)
    assert torch.equal(on.images, off.images)
    assert fewer["loss_cls"] < losses["loss_cls"]
    assert torch.equal(fewer["loss_reg"], losses["loss_reg"])


def test_a_run(folder, tmp_path, monkeypatch):
    name = f"('coco:{folder / 'flagged.json'}:{folder / 'shapes/train'}',)"
    args = ["--config-file", folder / "tiny.yaml", "DATASETS.TRAIN", name, "DATASETS.TEST", name]
    augmented = ["INPUT.MOSAIC.PROB", "0.5", "INPUT.CROP.PROB", "0.5", "SOLVER.MAX_ITER", "2"]
    args += ["OUTPUT_DIR", tmp_path / "run", *ON, *augmented]
    assert call_tool(monkeypatch, "train_net", args) == 0
    assert read_lines(tmp_path / "run")
    log = (tmp_path / "run/log.txt").read_text()
    assert log.count('by "ignore": 1; scored as crowds)') == 2  # of the training and of the test
