"""Tests the summary of a run at the start of its log."""

import numpy as np
import pytest
import torch
from helpers_run import ROOT, write_config
from torch import nn

from dynamic_atss import builders, summary
from dynamic_atss.config.load import load_config
from dynamic_atss.engine import distributed

CPU = torch.device("cpu")
TRAP = "MODEL.ATSS_ON -> rule dynamic_atss; for plain ATSS set MODEL.ASSIGNER.NAME atss"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


class Data:
    """Stands for a data set of ten images without files. All boxes are in the first image."""

    annotations = "my/train.json"

    def __init__(self, boxes=(3, 2, 0)):
        self.class_names = [f"class {i}" for i in range(len(boxes))]
        self.classes = np.repeat(np.arange(len(boxes)), boxes)

    def __len__(self):
        return 10

    def classes_by_image(self):
        return np.zeros_like(self.classes), self.classes


def rows(*overrides, boxes=(3, 2, 0), start=0) -> dict[str, str]:
    """Gives the rows of the summary by label. A row without a label is joined to the row above."""
    head = [] if "MODEL.HEAD.NAME" in overrides else ["MODEL.ATSS_ON", "True"]
    cfg = load_config(None, [*head, *overrides])
    model = nn.Linear(100, 10)
    model.bias.requires_grad_(False)
    dataset = Data(boxes)
    title, *lines = summary.of_training(cfg, model, dataset, [dataset], CPU, start).splitlines()
    assert title == f"Training in {cfg.OUTPUT_DIR}"
    found, label = {}, ""
    for line in lines:
        label = line[2:13].strip() or label
        found[label] = f"{found[label]}; {line[14:]}" if label in found else line[14:]
    return found


def test_the_rule_of_a_published_file_is_shown_with_the_alternative():
    assert rows()["rule"].startswith("dynamic_atss (topk 9)") and TRAP in rows()["rule"]
    named = rows("MODEL.ASSIGNER.NAME", "atss")["rule"]
    assert named.startswith("atss (topk 9)") and "MODEL.ASSIGNER.NAME" in named


@pytest.mark.parametrize(
    ("overrides", "head", "rule"),
    [
        (
            ["MODEL.ATSS.POSITIVE_TYPE", "SSC"],
            "ATSSHead (MODEL.ATSS_ON)",
            "fcos (margin 0.01); MODEL.ATSS.POSITIVE_TYPE SSC -> rule fcos",
        ),
        (
            ["MODEL.HEAD.NAME", "fcos", "MODEL.ASSIGNER.ARGS.radius", "1.5"],
            "FCOSHead (MODEL.HEAD.NAME fcos)",
            "fcos (radius 1.5); MODEL.HEAD.NAME fcos -> rule fcos",
        ),
        (
            ["MODEL.HEAD.NAME", "atss", "MODEL.ASSIGNER.NAME", "dynamic_atss"],
            "ATSSHead (MODEL.HEAD.NAME atss)",
            "dynamic_atss (topk 9); named by MODEL.ASSIGNER.NAME",
        ),
    ],
)
def test_head_and_rule_and_what_chose_them(overrides, head, rule):
    found = rows(*overrides)
    assert (found["head"], found["rule"]) == (head, rule)


def test_batch_schedule_and_parameters(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    split = ["SOLVER.IMS_PER_BATCH", "12", "SOLVER.ACCUMULATE", "3", "SOLVER.MAX_ITER", "25000"]
    found = rows(*split, "SOLVER.STEPS", "(9000, 20000, 30000)", "TEST.PERIOD", "500", start=100)
    for part in ("12 images", "2 processes", "3 passes", "SOLVER.ACCUMULATE", "x 2 images"):
        assert part in found["batch"]
    assert found["schedule"].startswith("25,000 iterations = 30000.0 epochs, 100 iterations done;")
    assert "x 0.1 at 9,000 and 20,000; " in found["schedule"]
    assert found["schedule"].endswith("tests every 500")
    assert found["parameters"] == "1,010, 1,000 of them trained"
    assert found["device"].startswith("2 x cpu, ")


def test_an_epoch_of_repeated_images_is_longer():
    repeated = rows("DATALOADER.REPEAT_FACTOR_THRESHOLD", "1.0", "SOLVER.MAX_ITER", "10")
    plain = rows("SOLVER.MAX_ITER", "10")
    factor = 1 / np.sqrt(0.1)  # image 0 has both classes, which one image in ten has
    epochs = [float(x["schedule"].split(" = ")[1].split()[0]) for x in (plain, repeated)]
    assert epochs == pytest.approx([16.0, 160 / (9 + factor)], abs=0.05)


def test_data_sets_and_as_many_classes_as_a_row_can_hold():
    found = rows()
    assert found["train"] == found["test"] == "10 images, 5 boxes: my/train.json"
    assert found["classes"] == "3: class 0 3, class 1 2, class 2 0"
    many = rows(boxes=[1000] * 80)["classes"]
    shown, omitted = many.split(", and ")
    assert len(shown) < 100 and shown.count(" 1,000") + int(omitted.split()[0]) == 80


def test_the_summary_of_a_test_describes_data_set_and_model(config):
    cfg = load_config(config[1], config[2:])
    dataset = builders.build_train_dataset(cfg)
    model = builders.build_model(cfg, len(dataset.class_names))
    text = summary.of_test(cfg, model, [dataset], CPU)
    assert "schedule" not in text and "rule" not in text
    boxes = sum(len(dataset.ground_truth(i)) for i in range(len(dataset)))
    assert f"16 images, {boxes} boxes: {dataset.annotations}" in text
    assert f"{sum(p.numel() for p in model.parameters()):,}, all of them trained" in text
    assert f"torch {torch.__version__}" in text


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/atss/*.yaml")), ids=lambda f: f.stem)
def test_our_files_of_atss_name_their_rule(file):
    cfg = load_config(file)
    assert summary.hyperparameters(cfg)["rule"] == "atss"
