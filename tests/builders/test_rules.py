"""The configured rule, custom rules, and rules that are refused."""

import pytest
import torch
from helpers_head import build_parts
from helpers_run import read_lines, run_tool, write_config

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.builders import build_assigner, build_head
from dynamic_atss.builders.limits import ACCEPTED
from dynamic_atss.builders.rules import build_one_to_one
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.class_loss import CLASS_LOSSES
from dynamic_atss.types import GroundTruth

OWN = '''
import torch
from dynamic_atss.types import Assignment


class Nearest:
    """Every box takes the `count` priors of the finest level nearest to its centre."""

    soft_labels = False
    quality_name = "nearness"
    needs_size = False

    def __init__(self, count, word="none"):
        self.count, self.word = count, word
        print("made with", count, word)

    def __call__(self, priors, gt, predictions):
        index = torch.full(predictions.boxes.shape[:2], -1)
        quality = torch.zeros(predictions.boxes.shape[:2])
        for t, box in enumerate(gt.boxes):
            distance = (priors.centers - (box[:2] + box[2:]) / 2).square().sum(1)
            nearest = distance.topk(self.count, largest=False).indices
            index[gt.image_index[t], nearest] = t
            quality[gt.image_index[t], nearest] = 1.0
        return Assignment(index, quality)
'''


def config(*overrides):
    on = () if any(str(x).endswith("_ON") for x in overrides) else ("MODEL.ATSS_ON", "True")
    return load_config(None, [str(x) for x in (*on, *overrides)])


def rule(*overrides):
    cfg = config(*overrides)
    return build_assigner(cfg, build_head(cfg))


@pytest.mark.parametrize(
    "head, overrides, name, attributes",
    [
        ("ATSS", {"TOPK": 7}, "dynamic_atss", {"topk": 7}),
        ("ATSS", {"POSITIVE_TYPE": "SSC"}, "fcos", {"radius": 0.0, "margin": 0.01}),
        ("ATSS", {"POSITIVE_TYPE": "TOPK", "TOPK": 5}, "topk", {"topk": 5}),
        (
            "ATSS",
            {"POSITIVE_TYPE": "IoU", "FG_IOU_THRESHOLD": 0.6},
            "max_iou",
            {"positive": 0.6, "negative": 0.4, "inside_only": True},
        ),
        ("FCOS", {}, "fcos", {"radius": 0.0, "margin": 0.0}),
        ("FCOS", {"CENTER_SAMPLING_RADIUS": 1.5}, "fcos", {"radius": 1.5}),
        (
            "RETINANET",
            {"BG_IOU_THRESHOLD": 0.3},
            "max_iou",
            {"negative": 0.3, "inside_only": False},
        ),
        ("DSLA", {}, "dsla", {"core_zone": True, "radius": 0.0, "lowest": (0, 51, 102, 204, 409)}),
        ("DSLA", {"CENTER_SAMPLING": True, "CORE_ZONE": False}, "dsla", {"radius": 1.5}),
        ("DSLA", {"INTERVAL_RELAXATION": False}, "dsla", {"lowest": (0, 64, 128, 256, 512)}),
    ],
)
def test_what_the_published_files_mean(head, overrides, name, attributes):
    settings = [x for key, value in overrides.items() for x in (f"MODEL.{head}.{key}", value)]
    built = rule(f"MODEL.{head}_ON", "True", *settings)
    assert type(built) is ASSIGNERS[name]
    assert {key: getattr(built, key) for key in attributes} == attributes


def test_arguments_go_before_what_the_section_of_the_head_says():
    args = ["MODEL.ASSIGNER.NAME", "atss", "MODEL.ATSS.TOPK", 7]
    assert rule(*args).topk == 7
    assert rule(*args, "MODEL.ASSIGNER.ARGS.topk", 3).topk == 3


def test_at_least_one():
    built = rule("MODEL.ASSIGNER.NAME", "atss", "MODEL.ASSIGNER.AT_LEAST_ONE", True)
    assert isinstance(built, AtLeastOne)


def test_a_rule_for_one_image_without_its_method(tmp_path):
    path = tmp_path / "rule.py"
    path.write_text(
        "from dynamic_atss.assigners.per_image import PerImage\nclass Half(PerImage): ...\n"
    )
    with pytest.raises(UserError, match=r"rule.py:Half': has no assign; a rule has"):
        rule("MODEL.ASSIGNER.NAME", f"{path}:Half")


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ("MODEL.ASSIGNER.NAME", "ats"),
            "no such name; the nearest is 'atss'; accepted are",
        ),
        (("MODEL.ASSIGNER.ARGS.topkk", "3"), "no such argument; the nearest is 'topk'"),
        (("MODEL.ASSIGNER.ARGS.combine", "max"), "dynamic_atss: "),
        (("MODEL.ASSIGNER.NAME", "no_such_module:Rule"), "no_such_module cannot be imported"),
        (("MODEL.ASSIGNER.NAME", "no/such.py:Rule"), "no/such.py cannot be imported"),
        (("MODEL.ASSIGNER.NAME", "json:Rule"), "json defines no class Rule; it has JSONDecode"),
        (("MODEL.ASSIGNER.NAME", ":Rule"), "nothing cannot be imported"),
        (("MODEL.ASSIGNER.NAME", "fractions:Fraction"), "has no __call__; a rule has soft_labels"),
        (("MODEL.ASSIGNER.NAME", "os:system"), "os defines no class system"),
        (("MODEL.ASSIGNER.NAME", "subprocess:Popen"), "has no __call__"),
        (("MODEL.ASSIGNER.ARGS.topk", "0"), "topk is 0"),
        (("MODEL.ASSIGNER.ARGS.topk", "True"), "topk is True"),
        (("MODEL.ASSIGNER.NAME", "atss", "MODEL.ASSIGNER.ARGS.topk", "2.5"), "topk is 2.5"),
        (("MODEL.ASSIGNER.NAME", "topk", "MODEL.ASSIGNER.ARGS.topk", "nine"), "topk is 'nine'"),
        (("MODEL.ASSIGNER.NAME", "fcos", "MODEL.ASSIGNER.ARGS.radius", "-1"), "radius is -1"),
        (
            ("MODEL.ASSIGNER.NAME", "fcos", "MODEL.ASSIGNER.ARGS.limits", "(64, 32)"),
            "increasing order",
        ),
        (("MODEL.ASSIGNER.NAME", "dsla", "MODEL.ASSIGNER.ARGS.relaxation", "2"), "must be below 1"),
        (("MODEL.ASSIGNER.NAME", "max_iou", "MODEL.ASSIGNER.ARGS.negative", "0.7"), "not be above"),
    ],
)
def test_one_line_for_what_is_wrong(overrides, words):
    with pytest.raises(UserError) as caught:
        rule(*overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_no_head_and_several_heads():
    for overrides, words in (
        ((), "no head is switched on: set one of MODEL.ATSS_ON, MODEL.FCOS_ON"),
        (
            ("MODEL.ATSS_ON", "True", "MODEL.FCOS_ON", "True"),
            "several heads are switched on: set one of MODEL.ATSS_ON, MODEL.FCOS_ON True",
        ),
    ):
        with pytest.raises(UserError, match=words):
            build_head(load_config(None, overrides))


@pytest.mark.slow
def test_a_rule_outside_the_package_trains(tmp_path):
    """The YAML gives the path of its file and its keyword arguments."""
    arguments = write_config(tmp_path)
    (tmp_path / "my_rule.py").write_text(OWN)
    tiny = tmp_path / "tiny.yaml"
    text = (
        f'    NAME: "{tmp_path}/my_rule.py:Nearest"\n    ARGS:\n      count: 4\n      word: dear\n'
    )
    tiny.write_text(tiny.read_text().replace("MODEL:\n", "MODEL:\n  ASSIGNER:\n" + text, 1))
    refused = run_tool("train_net", [*arguments, "OUTPUT_DIR", tmp_path / "run"])
    assert refused.returncode == 2 and "--allow-code" in refused.stderr
    assert "made with" not in refused.stdout and not (tmp_path / "run").exists()
    arguments.append("--allow-code")
    done = run_tool("train_net", [*arguments, "OUTPUT_DIR", tmp_path / "run"])
    assert done.returncode == 0, done.stderr
    assert "made with 4 dear" in done.stdout
    lines = [line for line in read_lines(tmp_path / "run") if "loss" in line]
    assert lines and all(line["loss_nearness"] > 0 for line in lines)
    again = tmp_path / "run" / "config.yaml"  # what was run can be run again
    assert load_config(again, allow_code=True).MODEL.ASSIGNER.ARGS.count == 4


def test_a_rule_as_a_module(tmp_path, monkeypatch):
    """The module is found in the working directory."""
    (tmp_path / "rule_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    name = ("MODEL.ASSIGNER.NAME", "rule_of_mine:Nearest")
    assert rule(*name, "MODEL.ASSIGNER.ARGS.count", 2).count == 2
    with pytest.raises(UserError, match=r"ARGS of rule_of_mine:Nearest: .*'count'"):
        rule(*name)


@pytest.mark.parametrize(
    "overrides, divides",
    [
        (("MODEL.ATSS_ON", True), False),
        (("MODEL.DSLA_ON", True), True),
        (("MODEL.DSLA_ON", True, "MODEL.CLASS_LOSS_DIVISOR", "positives"), False),
        (("MODEL.FCOS_ON", True, "MODEL.CLASS_LOSS_DIVISOR", "labels"), True),
    ],
)
def test_what_the_class_loss_is_divided_by(overrides, divides):
    cfg = config(*overrides)
    assert build_parts(cfg, 32, 3).criterion.divide_by_labels is divides


@pytest.mark.parametrize(
    "rule_name, asked, kind",
    [
        ("atss", "", "focal"),
        ("dynamic_atss", "", "quality_focal"),
        ("atss", "varifocal", "varifocal"),
    ],
)
def test_which_class_loss(rule_name, asked, kind):
    cfg = config("MODEL.ASSIGNER.NAME", rule_name, "MODEL.CLASS_LOSS", asked)
    assert build_parts(cfg, 32, 3).criterion.class_loss.kind == kind


def test_every_class_loss_is_accepted():
    assert set(ACCEPTED["MODEL.CLASS_LOSS"]) == {"", *CLASS_LOSSES}


def test_a_file_with_a_dataclass(tmp_path):
    """Dataclasses look up their module. A file that is named twice gives the same class."""
    path = tmp_path / "my_rule.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\n"
        "class Rule:\n    topk: int = 3\n    soft_labels = False\n    quality_name = 'word'\n"
        "    needs_size = False\n\n    def __call__(self, priors, gt, predictions): ...\n"
    )
    one, two = (rule("MODEL.ASSIGNER.NAME", f"{path}:Rule") for _ in range(2))
    assert one.topk == 3 and type(one) is type(two)


def test_a_file_that_raises(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(UserError, match=r"broken.py cannot be imported .*ZeroDivisionError"):
        rule("MODEL.ASSIGNER.NAME", f"{tmp_path}/broken.py:Rule")


def test_a_file_that_ends_the_process(tmp_path):
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(7)")
    with pytest.raises(UserError, match=r"ends.py cannot be imported .*SystemExit: 7"):
        rule("MODEL.ASSIGNER.NAME", f"{tmp_path}/ends.py:Rule")


@pytest.mark.parametrize("name", [n for n, r in ASSIGNERS.items() if not r.needs_size])
@pytest.mark.parametrize("head", ["ATSS", "FCOS", "DSLA", "RETINANET"])
def test_the_terms_are_of_the_same_size_under_every_head(head, name):
    """Compares the terms at initial weights. Labels are coupled to the IoU once, not twice."""
    cfg = config(f"MODEL.{head}_ON", True, "MODEL.ASSIGNER.NAME", name)
    parts = build_parts(cfg, 32, 3)
    torch.manual_seed(0)
    sizes = ((16, 16), (8, 8), (4, 4), (2, 2), (1, 1))
    output = parts.network([torch.randn(2, 32, h, w) for h, w in sizes])
    boxes = torch.tensor([[10.0, 12, 60, 70], [30, 20, 120, 100], [5, 5, 40, 30]])
    gt = GroundTruth(boxes, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    losses = parts.criterion(output, parts.priors(sizes, torch.device("cpu")), gt).losses
    kind = "retina_" if head == "RETINANET" else ""
    assert 0 < losses[f"loss_{kind}cls"] < 10
    assert 0 < losses[f"loss_{kind}reg"] < 20
    coupled = getattr(parts.criterion, "label", "") == "quality_x_iou"
    hard = ("dsla", "fcos", "poto", "dw", "o2f", "rfla")
    assert coupled == (head == "DSLA" and name in hard)


def test_a_hard_label_in_the_head_of_dsla_is_divided_by_positives():
    for overrides in (("MODEL.ASSIGNER.NAME", "fcos"), ("MODEL.CLASS_LOSS", "focal")):
        cfg = config("MODEL.DSLA_ON", True, *overrides)
        assert not build_parts(cfg, 32, 3).criterion.divide_by_labels


def test_the_one_to_one_branch_takes_the_cap_of_task_alignment():
    cfg = config("MODEL.ONE_TO_ONE.NAME", "small_target_aligned")
    assert build_one_to_one(cfg, build_head(cfg)).per_box == 1
    assert ASSIGNERS["small_target_aligned"]().per_box == 10


def test_the_labels_of_o2f_fall_over_the_whole_training():
    asked = ("MODEL.ASSIGNER.NAME", "o2f", "SOLVER.MAX_ITER", 700)
    assert rule(*asked).iterations == 700
    assert rule(*asked, "MODEL.ASSIGNER.ARGS.iterations", 90).iterations == 90


def test_a_misspelt_file_of_code(tmp_path):
    (tmp_path / "my_rule.py").write_text("class Rule: ...\n")
    with pytest.raises(UserError, match=f"; the nearest is {tmp_path}/my_rule.py"):
        rule("MODEL.ASSIGNER.NAME", f"{tmp_path}/my_rul.py:Rule")
