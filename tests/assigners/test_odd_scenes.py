"""Compares every rule on tied, huge and not finite numbers: a GPU with the CPU's kernels.

The rules run in plain PyTorch on a GPU. Where there is none, plain PyTorch on the CPU takes its
place, as it is and with other last digits. All three must give the same labels.
"""

import os
import subprocess
import sys
from pathlib import Path

import helpers_odd_scenes
import pytest
import torch
from helpers_odd_scenes import NOT_FINITE, SCENES
from helpers_reference import assigned

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.types import Assignment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
# The best points of `task_aligned` then lie outside of the box; `dw` has weights that are NaN.
NO_POSITIVES = (
    ("task_aligned", "equal predictions"),
    ("dw", "boxes without end"),
    ("dw", "huge predictions"),
)
PLACES = ["plain", "rounded", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(scope="module", params=PLACES)
def there(request, tmp_path_factory):
    """Gives a function (rule, scene) that assigns in another way than the CPU's kernels."""
    if request.param == "cuda":
        return lambda rule, name: assigned(ASSIGNERS[rule](), *SCENES[name](), "cuda")
    path = tmp_path_factory.mktemp("plain") / "assignments.pth"
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "DYNAMIC_ATSS_NATIVE": "0", "PYTHONPATH": places}
    command = [sys.executable, helpers_odd_scenes.__file__, str(path), request.param]
    subprocess.run(command, env=environment, check=True)
    found = torch.load(path)
    return lambda rule, name: Assignment(*found[rule, name])


def assert_same(here, there):
    assert torch.equal(here.gt_index, there.gt_index)
    quality = there.quality.to(here.quality.dtype)
    torch.testing.assert_close(here.quality, quality, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("rule", ASSIGNERS)
def test_labels_and_qualities(rule, name, there):
    here = ASSIGNERS[rule]()(*SCENES[name]())
    assert_same(here, there(rule, name))
    if name not in NOT_FINITE:
        without = name == "no boxes" or (rule, name) in NO_POSITIVES
        assert bool(here.positive.any()) != without


def test_another_label_is_found(there):
    here = ASSIGNERS["atss"]()(*SCENES["equal boxes"]())
    found = there("atss", "equal boxes")
    with pytest.raises(AssertionError):
        assert_same(here, Assignment(found.gt_index.roll(1, dims=1), found.quality))
