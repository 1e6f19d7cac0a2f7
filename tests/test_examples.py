"""Tests the files of examples/, with the commands that their first lines give."""

import csv
import json
from pathlib import Path

import pytest
import torch
from helpers_run import ROOT, read_lines, run_tool, write_config

from dynamic_atss.data.catalog import open_dataset

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OVERRIDES = {
    "shared_tower_head": (
        "MODEL.HEAD.NAME",
        "examples/shared_tower_head.py:SharedTowerHead",
        "MODEL.HEAD.ARGS.convs",
        2,
    ),
    "learned_width": ("MODEL.ASSIGNER.NAME", "examples/learned_width.py:LearnedWidth"),
    "diou_loss": ("MODEL.BOX_LOSS", "examples/diou_loss.py:diou"),
    "plain_body": (
        "MODEL.BACKBONE.CONV_BODY",
        "examples/plain_body.py:PlainBody",
        "MODEL.BACKBONE.ARGS.width",
        8,
    ),
}
# The name of a parameter that only a model with the example has.
PARAMETERS = {
    "learned_width": "criterion.assigner.width",
    "shared_tower_head": "head.branches.weight",
    "plain_body": "backbone.body.stages.4.0.weight",
}


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    return write_config(tmp_path)


def train_and_test(tiny: list[str], overrides: tuple, run: Path) -> dict:
    """Trains and tests by the tools, and returns the last checkpoint."""
    arguments = [*tiny, *overrides, "OUTPUT_DIR", run]
    trained = run_tool("train_net", [*arguments, "--skip-test"])
    assert trained.returncode == 0, trained.stderr
    tested = run_tool("test_net", [*arguments, "MODEL.WEIGHT", run / "model_final.pth"])
    assert tested.returncode == 0, tested.stderr
    scores = next(run.glob("inference/*/coco_metrics.json"))
    assert 0 <= json.loads(scores.read_text())["AP"] <= 1
    return torch.load(run / "model_final.pth", weights_only=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_shows_its_command(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert any(f"examples/{path.name}" in line for line in lines[:8])


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_example_trains_and_is_tested(name, tiny, tmp_path):
    content = train_and_test(tiny, OVERRIDES[name], tmp_path / "run")
    assert PARAMETERS.get(name, "head.cls_logits.weight") in content["model"]
    losses = [line["loss_reg"] for line in read_lines(tmp_path / "run") if "loss" in line]
    assert losses and all(x > 0 for x in losses)


def test_the_parameter_of_a_rule_is_trained(tiny, tmp_path):
    overrides = (*OVERRIDES["learned_width"], "SOLVER.EMA_DECAY", 0.5)
    content = train_and_test(tiny, overrides, tmp_path / "run")
    width = content["model"]["criterion.assigner.width"]
    assert (width != 1).all() and ((width - 1).abs() < 0.5).all()
    logged = [line["width"] for line in read_lines(tmp_path / "run") if "width" in line]
    assert len(set(logged)) == len(logged) == 3
    lines = [line for line in read_lines(tmp_path / "run") if "loss" in line]
    assert all(line["loss_width"] > 0 and line["positives"] > 0 for line in lines)


def rows_of(data, path: Path) -> list[tuple]:
    """Writes the boxes of a data set as CSV rows, the last image first, and returns the rows."""
    rows = []
    for index in reversed(range(len(data))):
        gt = data.ground_truth(index)
        for box, label in zip(gt.boxes.tolist(), gt.classes.tolist(), strict=True):
            x1, y1, x2, y2 = box
            rows.append((data.path(index).name, x1, y1, x2 + 1, y2 + 1, data.class_names[label]))
    path.write_text("")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return rows


def test_the_format_of_csv_rows(tiny, tmp_path):
    """The CSV files have the same boxes as the COCO files."""
    root, names = tmp_path / "datasets", {}
    for split in ("train", "val"):
        data = open_dataset(f"shapes_{split}", root=root, training=True)
        assert rows_of(data, tmp_path / f"{split}.csv")
        folder = f"{tmp_path}/{split}.csv:{root}/shapes/{split}"
        names[split] = f"('examples/csv_boxes.py:CsvBoxes:{folder}',)"
    overrides = ("DATASETS.TRAIN", names["train"], "DATASETS.TEST", names["val"])
    content = train_and_test(tiny, overrides, tmp_path / "run")
    assert content["classes"] == sorted(data.class_names)
    assert (tmp_path / "run/inference/val/bbox.json").is_file()
    (tmp_path / "val.csv").write_text("a.png, 1, 2\n")
    failed = run_tool("test_net", [*tiny, *overrides, "OUTPUT_DIR", tmp_path / "run"])
    assert failed.returncode == 2 and "row 1 has 3 cells" in failed.stderr
    (tmp_path / "val.csv").write_text("a.png, one, 2, 3, 4, cat\n")
    failed = run_tool("test_net", [*tiny, *overrides, "OUTPUT_DIR", tmp_path / "run"])
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert "could not convert string to float" in failed.stderr
