"""Paths of an earlier release."""

import importlib
import subprocess
import sys
import warnings

import pytest


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
        with pytest.warns(DeprecationWarning, match=f"^{old} .*import {name} from {new}$") as told:
            found = getattr(importlib.import_module(old), name)
        assert found is getattr(importlib.import_module(new), name)
        assert [warning.filename for warning in told] == [__file__]


def test_what_was_never_there_is_an_import_error():
    with pytest.raises(ImportError, match="nothing"):
        from dynamic_atss.build import nothing  # noqa: F401


def test_what_the_readme_names_for_rules_did_not_move():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from dynamic_atss.assigners.base import box_sides, inside_of, predicted_iou, resolve
        from dynamic_atss.assigners.nearest import nearest_candidates

    names = [f.__module__ for f in (box_sides, inside_of, predicted_iou, resolve)]
    assert all(name.startswith("dynamic_atss.assigners.") for name in names)
    assert nearest_candidates.__module__ == "dynamic_atss.assigners.nearest"


def test_importing_an_old_path_alone_costs_nothing_and_says_nothing():
    code = "import sys, dynamic_atss.build; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
