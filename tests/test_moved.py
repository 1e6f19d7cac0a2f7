"""Tests the paths of an earlier release."""

import importlib
import subprocess
import sys
import warnings

import pytest
import torch

from dynamic_atss.assigners.base import Pairs, anchor_iou, predicted_iou
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.builders import build_head
from dynamic_atss.config.load import load_config
from dynamic_atss.types import GroundTruth, Level, Predictions, Priors


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("dynamic_atss.build", "dynamic_atss.builders", ["build_model", "check_config"]),
        ("dynamic_atss.builders.run", "dynamic_atss.run", ["train", "test"]),
        ("dynamic_atss.engine.weights", "dynamic_atss.weights", ["load_weights", "to_published"]),
    ],
)
def test_old_paths_give_the_same_and_name_the_new_one(old, new, names):
    for name in names:
        with pytest.warns(DeprecationWarning, match=f"{old}: import {name} from {new}$") as record:
            found = getattr(importlib.import_module(old), name)
        assert found is getattr(importlib.import_module(new), name)
        assert [warning.filename for warning in record] == [__file__]


def test_extra_is_taken_in_place_of_a_convention():
    """Uses boxes of pixels 0..9 and 0..4. The IoU is 5/10 where the last pixel counts, else 4/9."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    zero = torch.zeros(1, 1, dtype=torch.int64)
    priors = Priors(boxes[:1], (Level(1, 1, 8),))
    gt = GroundTruth(boxes[1:], zero[0], zero[0], convention=BoxConvention.EXACT)
    predictions = Predictions(boxes[None, :1], torch.zeros(1, 1, 1))
    pairs = Pairs(zero, zero, zero, zero == 0)
    for measure, seen in ((anchor_iou, priors), (predicted_iou, predictions)):
        assert measure(seen, gt, pairs).item() == pytest.approx(4 / 9)
        assert measure(seen, gt, pairs, BoxConvention.LEGACY).item() == 0.5
        with pytest.warns(DeprecationWarning, match="extra="):
            assert measure(seen, gt, pairs, extra=1).item() == 0.5


def test_renamed_attributes_can_still_be_read():
    gt = GroundTruth(torch.zeros(2, 4), torch.zeros(2).long(), torch.tensor([0, 1]))
    with pytest.warns(DeprecationWarning, match=r"GroundTruth\.image: it is called image_index"):
        assert torch.equal(gt.image, torch.tensor([0, 1]))
    head = build_head(load_config(None, ["MODEL.ATSS_ON", "True"]))
    with pytest.warns(DeprecationWarning, match=r"ATSSHead\.own: it is called settings"):
        assert head.own is head.settings


def test_an_unknown_name_is_an_import_error():
    with pytest.raises(ImportError, match="nothing"):
        from dynamic_atss.build import nothing  # noqa: F401


def test_names_that_the_readme_gives_for_rules_have_not_moved():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from dynamic_atss.assigners.base import box_sides, inside_of, predicted_iou, resolve
        from dynamic_atss.assigners.nearest import nearest_candidates

    names = [f.__module__ for f in (box_sides, inside_of, predicted_iou, resolve)]
    assert all(name.startswith("dynamic_atss.assigners.") for name in names)
    assert nearest_candidates.__module__ == "dynamic_atss.assigners.nearest"


def test_importing_an_old_path_alone_imports_no_torch_and_does_not_warn():
    code = "import sys, dynamic_atss.build; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
