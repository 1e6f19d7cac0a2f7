"""Tests `dynamic-atss inspect` on a small run, on a rule of examples/, and on bad input."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from helpers_pages import train

pytestmark = pytest.mark.slow

LEARNS = "examples/learned_width.py:LearnedWidth"


def test_a_run_under_three_rules(inspect, run, tmp_path):
    output = tmp_path / "page.html"
    rules = ("dynamic_atss", "atss", "atss,topk=3")
    message, data = inspect.page(
        "--weights", run, "--rules", *rules, "--count", 3, "--output", output
    )
    assert message.startswith(f"{output}: 3 pictures, 3 rules, 4 steps, 0.")
    names = [step["name"] for step in data["steps"]]
    assert names == ["initial network", "iteration 2", "iteration 4", "iteration 6"]
    assert data["steps"][0]["weights"] == "SEED 0, nothing learnt"
    assert data["steps"][-1]["weights"] == "model_final.pth, trained (raw) weights"
    assert [rule["dynamic"] for rule in data["rules"]] == [True, False, False]
    assert [rule["of_network"] for rule in data["rules"]] == [True, False, False]
    for picture in data["pictures"]:
        atss, fewer = picture["views"][1:]
        positives = "positive_prior"
        # A rule that reads no predictions gives the same answer at each step, stored once.
        assert len({tuple(step["arrays"][positives]) for step in atss}) == 1
        assert len({tuple(step["arrays"]["pair_predicted"]) for step in atss}) == 4
        kept = [x[0]["arrays"]["pair_box"][2] for x in (atss, fewer)]
        assert kept[1] < kept[0]


def test_averaged_weights_and_one_file(inspect, run, tmp_path):
    chosen = ("--weights", run / "model_0000004.pth", "--count", 1, "--output", tmp_path / "a.html")
    _, raw = inspect.page(*chosen)
    _, averaged = inspect.page(*chosen, "--averaged")
    assert [d["steps"][0]["iteration"] for d in (raw, averaged)] == [4, 4]
    assert averaged["steps"][0]["weights"] == "model_0000004.pth, averaged weights"
    assert [rule["name"] for rule in raw["rules"]] == ["dynamic_atss"]
    assert raw["pictures"][0]["block"] != averaged["pictures"][0]["block"]


def test_few_steps_of_a_run_and_chosen_pictures(inspect, run, tmp_path):
    named = ("--only", "000047.jpg", "11")
    output = tmp_path / "page.html"
    _, data = inspect.page("--weights", run, "--steps", 2, *named, "--output", output)
    assert [step["iteration"] for step in data["steps"]] == [0, 6]
    assert [picture["name"] for picture in data["pictures"]] == ["000047.jpg", "000011.jpg"]


def test_what_reads_predictions_is_told_by_pictures_with_boxes(inspect, run, tmp_path):
    """Without boxes, no prediction changes the answer of any rule."""
    root = Path(yaml.safe_load((run / "config.yaml").read_text())["DATASETS"]["ROOT"]) / "shapes"
    content = json.loads((root / "annotations/val.json").read_text())
    empty = content["images"][-1]["id"]
    kept = [one for one in content["annotations"] if one["image_id"] != empty]
    (tmp_path / "empty.json").write_text(json.dumps(content | {"annotations": kept}))
    images = f"coco:{tmp_path / 'empty.json'}:{root / 'val'}"
    shown = ("--weights", run, "--images", images, "--rules", "simota", "atss")
    output = ("--steps", 1, "--output", tmp_path / "page.html")
    first = content["images"][0]["id"]
    for chosen, expected in (((first, empty), [True, False]), ((empty,), [None, None])):
        _, data = inspect.page(*shown, "--only", *chosen, *output)
        assert [rule["dynamic"] for rule in data["rules"]] == expected


def test_without_weights(inspect, tiny, tmp_path):
    _, arguments = tiny
    config, keys = arguments[:2], arguments[2:]
    rules = ("--rules", "fcos", "max_iou", "dsla")
    output = tmp_path / "page.html"
    _, data = inspect.page(*config, *rules, "--output", output, "--count", 2, "--set", *keys)
    assert [step["name"] for step in data["steps"]] == ["initial network"]
    assert not any(rule["dynamic"] or rule["of_network"] for rule in data["rules"])
    assert "fits level" not in data["reasons"] and "taken by another box" in data["reasons"]


def test_a_rule_of_examples_with_what_it_has_learnt(inspect, tiny, tmp_path):
    _, arguments = tiny
    run = tmp_path / "learned"
    train(arguments, run, "MODEL.ASSIGNER.NAME", LEARNS, "MODEL.ASSIGNER.AT_LEAST_ONE", "True")
    refused = inspect.refused("--weights", run)
    assert "add --allow-code" in refused
    output = tmp_path / "page.html"
    _, data = inspect.page("--weights", run, "--allow-code", "--count", 2, "--output", output)
    (rule,) = data["rules"]
    assert (rule["class"], rule["wrappers"], rule["of_network"]) == (
        "LearnedWidth",
        ["AtLeastOne"],
        True,
    )
    assert rule["name"] == "LearnedWidth"
    views = [picture["views"][0] for picture in data["pictures"]]
    for steps in views:  # the weight changes from step to step
        places = {tuple(step["arrays"]["positive_weight"]) for step in steps}
        assert len(places) == len(steps) == 4
    assert "below the threshold" in data["reasons"]  # from ATSS, which the rule calls
    options = ("--rules", LEARNS, f"{LEARNS},width=2.0", "--count", 1)
    # --rules names the code, so that it may run.
    _, data = inspect.page("--weights", run, *options, "--output", output)
    assert [rule["of_network"] for rule in data["rules"]] == [True, False]


TWO_BRANCHES = """
from torch import nn
from dynamic_atss.assigners.rules.fcos import FCOS
from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.modeling.branches import BranchCriterion


class Twice(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, features):
        return {"many": self.network(features), "one": self.network(features)}


class TwoBranches(ATSSHead):
    def network(self, channels, classes):
        return Twice(super().network(channels, classes))

    def criterion(self, assigner, coder):
        second = super().criterion(self.wrapped(FCOS()), coder)
        return BranchCriterion({"many": super().criterion(assigner, coder), "one": second})

    def postprocess_arguments(self):
        return {"branch": "one"}
"""


def test_a_head_of_two_branches(inspect, tiny, tmp_path):
    _, arguments = tiny
    (tmp_path / "two.py").write_text(TWO_BRANCHES)
    keys = [*arguments[2:], "MODEL.HEAD.NAME", f"{tmp_path}/two.py:TwoBranches"]
    output = ("--output", tmp_path / "page.html", "--count", 1)
    _, data = inspect.page(*arguments[:2], *output, "--set", *keys)
    assert [rule["name"] for rule in data["rules"]] == ["many: dynamic_atss", "one: fcos"]
    assert [rule["class"] for rule in data["rules"]] == ["DynamicATSS", "FCOS"]
    _, other = inspect.page(*arguments[:2], *output, "--rules", "topk", "--set", *keys)
    assert [rule["class"] for rule in other["rules"]] == ["TopK"]


def bad(folder, run):
    """Gives pairs of arguments and a part of the expected message."""
    wide = ("--output", folder / "page.html")
    broken = folder / "broken.pth"
    broken.write_bytes((run / "model_final.pth").read_bytes()[:9000])
    (folder / "empty").mkdir()
    (folder / "empty" / "config.yaml").write_text((run / "config.yaml").read_text())
    backbone = folder / "backbone.pth"
    state = torch.load(run / "model_final.pth", weights_only=True)["model"]
    torch.save({k: v for k, v in state.items() if k.startswith("backbone.body.")}, backbone)
    with_config = ("--config-file", run / "config.yaml")
    return [
        (("--weights", folder / "none.pth", *wide), "no such weights"),
        (wide, "add --weights RUN_OR_FILE or --config-file FILE"),
        (("--weights", folder / "empty", *wide), "the folder holds no checkpoint"),
        (("--weights", backbone, *wide), "contains no configuration"),
        (("--weights", broken, *with_config, *wide), "truncated, damaged or not a weight file"),
        (("--weights", backbone, *with_config, *wide), "holds a backbone only"),
        (
            ("--weights", run, "--rules", "atts", *wide),
            "--rules atts: there is no such rule; the nearest is atss;",
        ),
        (
            ("--weights", run, "--rules", "atss,topk", *wide),
            "--rules atss,topk: there is no such rule",
        ),
        (("--weights", run, "--rules", "atss,k=1", *wide), "MODEL.ASSIGNER.ARGS"),
        (("--weights", run, "--images", folder, *wide), "without annotations has no boxes"),
        (("--weights", run, "--images", "shapes_vall", *wide), "nearest name is 'shapes_val'"),
        (("--weights", run, "--only", "nobody.jpg", *wide), "has no picture of that name or id"),
        (("--weights", run, "--count", 0, *wide), "--count 0: at least 1 is needed"),
    ]


def test_bad_input_is_one_line(inspect, run, tmp_path):
    for arguments, text in bad(tmp_path, run):
        message = inspect.refused(*arguments)
        assert text in message, message
    assert not (tmp_path / "page.html").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_work(inspect, run, tmp_path):
    missing = ("--weights", tmp_path / "none.pth")  # the first step of the work would refuse it
    (tmp_path / "file").touch()
    for place, text in {
        tmp_path: f"--output {tmp_path}: is a folder; name a file in it",
        tmp_path / "file" / "page.html": f"{tmp_path}/file is no folder that can be written",
    }.items():
        message = inspect.refused(*missing, "--output", place)
        assert text in message, message
