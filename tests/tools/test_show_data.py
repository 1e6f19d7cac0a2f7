"""Tests the sheet of training images with augmentation; mistakes are reported in one line."""

from itertools import pairwise

import cv2
import pytest
import torch
from helpers_run import call_tool, write_config

from dynamic_atss.types import Batch, GroundTruth
from dynamic_atss.viz.batches import draw_batch
from dynamic_atss.viz.draw import class_color


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


def test_sheet(config, tmp_path, monkeypatch, capsys):
    sheets = []
    for options in ([], ["--iteration", 2], ["INPUT.MOSAIC.PROB", 1]):
        out = tmp_path / f"{len(sheets)}.png"
        args = [*config, "--output", out, "--count", 6, "--columns", 3, *options]
        assert call_tool(monkeypatch, "show_data", args) == 0
        iteration = 2 if 2 in options else 0
        assert f"6 images from iteration {iteration}: {out}" in capsys.readouterr().out
        sheets.append(cv2.imread(str(out)))
    # Three columns and two rows of squares of 320 pixels, with 8 pixels between them.
    assert [sheet.shape for sheet in sheets] == [(648, 976, 3)] * 3
    assert all((a != b).any() for a, b in pairwise(sheets))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--count", 0], "--count 0"),
        (["--iteration", 6], "--iteration 6: the training has iterations 0 to 5"),
        (["INPUT.HUE", 2], "INPUT.HUE 2.0: at most 0.5"),
        (["--output", "sheet.what"], "sheet.what: no image format"),
        (["--output", "file.pth/x.png"], "file.pth/x.png: cannot be written"),
        (["--output", "/proc/foo.png"], "/proc/foo.png: cannot be written"),
        (["--output", "folder.png"], "folder.png: cannot be written"),
    ],
)
def test_mistakes(config, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").touch()
    (tmp_path / "folder.png").mkdir()
    assert call_tool(monkeypatch, "show_data", [*config, *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"file.pth", "folder.png"}  # and no other file


def test_pictures_show_boxes_and_no_padding():
    gt = GroundTruth(torch.tensor([[10.0, 10, 50, 40]]), torch.tensor([2]), torch.tensor([1]))
    images = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    sizes = torch.tensor([[64, 96], [96, 80]])
    batch = Batch(images, sizes, gt, (1, 2), ((64, 96), (96, 80)))
    first, second = draw_batch(batch, ["a", "b", "c"], short_side=1)
    assert first.shape == (3, 64, 96) and (first == 0).all()
    assert second.shape == (3, 96, 80)
    assert tuple(second[:, 25, 10].tolist()) == class_color(2)


def test_pictures_name_the_regions_to_ignore(monkeypatch):
    labels = []
    monkeypatch.setattr(
        "dynamic_atss.viz.batches.draw_boxes", lambda image, boxes, names, **_: labels.append(names)
    )
    boxes, none = torch.tensor([[10.0, 10, 50, 40]]).repeat(3, 1), torch.zeros(3).long()
    gt = GroundTruth(boxes, torch.tensor([2, 0, 1]), none, torch.tensor([False, False, True]))
    batch = Batch(torch.zeros(1, 3, 64, 64).byte(), torch.tensor([[64, 64]]), gt, (1,), ())
    draw_batch(batch, ["a", "b", "c"])
    assert labels == [["c", "a", "b (ignored)"]]
