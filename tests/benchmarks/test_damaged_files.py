"""Damaged weight files are refused, unless the damage has no effect.

The benchmark damages thousands of files.
"""

import importlib
from pathlib import Path

import pytest

FLIPS = 40


@pytest.fixture
def damaged(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("damaged_files")


@pytest.mark.parametrize("door", ["load", "test", "convert", "checkpoint"])
def test_damage_is_told_where_there_are_checksums(damaged, door):
    for kind in ("project", "published") if door != "checkpoint" else ("project",):
        found = damaged.measure(kind, door, FLIPS)
        assert found["cut"] == {"refused": 20}
        assert set(found["flip"]) == {"refused", "same"} and found["flip"]["refused"] > FLIPS // 2


def test_older_files_are_cut_or_changed_without_a_traceback(damaged):
    found = damaged.measure("legacy", "load", FLIPS)
    assert found["cut"] == {"refused": 20} and "traceback" not in found["flip"]
    assert found["flip"]["different"] > 0  # they have no checksum: SECURITY.md says so


def test_the_encoding_of_a_name_in_an_archive(damaged, tmp_path):
    """Flips a bit in a name that is marked as UTF-8."""
    path = tmp_path / "model_0000001.pth"
    damaged.write("project", path)
    data = path.read_bytes()
    name = data.rindex(b"data.pkl")
    path.write_bytes(data[:name] + bytes([data[name] | 0x80]) + data[name + 1 :])
    for door in damaged.DOORS.values():
        assert damaged.outcome(door, path, None) == "refused"


def test_content_that_differs_is_noticed(damaged, tmp_path):
    path = tmp_path / "model_0000001.pth"
    damaged.write("project", path)
    intact = damaged.load_checkpoint(path)
    assert damaged.outcome(damaged.load_checkpoint, path, intact) == "same"
    intact["model"]["head.quality.bias"] += 1
    assert damaged.outcome(damaged.load_checkpoint, path, intact) == "different"
