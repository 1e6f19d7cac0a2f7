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

pytestmark = pytest.mark.slow

ON = ("MODEL.ASSIGNER.IGNORE_REGIONS", "True")
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Generates images. One file flags every second box, and another file lacks these boxes."""
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


BRANCHES = """
from torch import nn
from dynamic_atss.assigners.rules.task_aligned import TaskAligned
from dynamic_atss.builders.heads.fcos import FCOSHead
from dynamic_atss.modeling.branches import BranchCriterion

class Two(nn.Module):
    def __init__(self, many, one):
        super().__init__()
        self.branches = nn.ModuleDict({"many": many, "one": one})
    def forward(self, features):
        return {name: head(features) for name, head in self.branches.items()}

class Plain(FCOSHead):
    def network(self, channels, classes):
        return Two(*(super(Plain, self).network(channels, classes) for _ in range(2)))
    def further(self):
        return TaskAligned(topk=1)
    def criterion(self, assigner, coder):
        rules = {"many": assigner, "one": self.further()}
        make = super().criterion
        return BranchCriterion({name: make(rule, coder) for name, rule in rules.items()})
    def postprocess_arguments(self):
        return {"branch": "one", "nms": False}

class Wrapped(Plain):
    def further(self):
        return self.wrapped(super().further())
"""


def test_the_rules_of_all_branches_see_objects_alone(folder):
    """A rule gets no regions as objects. If it is wrapped, regions are no background either."""
    (folder / "two.py").write_text(BRANCHES)

    def losses(name, head, *more):
        head_keys = ("MODEL.ATSS_ON", "False", "MODEL.HEAD.NAME", f"{folder / 'two.py'}:{head}")
        return first_losses(config(folder, name, *head_keys, *more))[1]

    without = losses("without", "Plain")
    plain, wrapped = (losses("flagged", head, *ON) for head in ("Plain", "Wrapped"))
    assert plain["one/loss_cls"] == without["one/loss_cls"]
    assert plain["many/loss_cls"] == wrapped["many/loss_cls"] < without["many/loss_cls"]
    assert wrapped["one/loss_cls"] < without["one/loss_cls"]
    for name in ("many/loss_reg", "one/loss_reg"):
        assert plain[name] == wrapped[name] == without[name]


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
