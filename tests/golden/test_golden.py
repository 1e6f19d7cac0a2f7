"""This folder is what make.py takes of the reference, and lies within its limits."""

import json
from pathlib import Path

import numpy as np
from golden.make import arrays, names

HERE = Path(__file__).parent


def test_arrays_are_those_of_the_reference(shared):
    for name, made in arrays(shared / "reference").items():
        with np.load(HERE / name) as file:
            assert set(file.files) == set(made), name
            for key in file.files:
                assert file[key].dtype == made[key].dtype, key
                np.testing.assert_array_equal(file[key], made[key], err_msg=f"{name} {key}")


def test_labels_lose_nothing(shared):
    """16 bits hold what the reference holds in 64 and in float32."""
    for rule in ("dynamic", "atss", "fcos"):
        whole = np.load(shared / f"reference/assign_{rule}.npz")
        part = np.load(HERE / f"assign_{rule}.npz")
        labels = [key for key in whole.files if key.endswith("labels")]
        assert len(labels) == {"dynamic": 10, "atss": 25, "fcos": 15}[rule]
        for key in labels:
            np.testing.assert_array_equal(part[key], whole[key], err_msg=key)


def test_names_are_those_of_the_reference(shared):
    for name, content in names(shared / "reference").items():
        assert json.loads((HERE / name).read_text()) == content, name


def test_a_clone_stays_small():
    files = [path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 2 << 20
