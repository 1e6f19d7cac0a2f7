"""Tests that a comparison does not mix runs of other code or annotations."""

import json
from types import SimpleNamespace

import pytest
from helpers_comparison import write_data

from dynamic_atss.comparison.inputs import NAME, record_inputs
from dynamic_atss.config.load import load_config
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.errors import UserError


@pytest.fixture
def begun(tmp_path):
    """A run that has begun, by a function that records it and gives the recorded checksums."""
    rule, folder = tmp_path / "rule.py", tmp_path / "atss/seed_0"
    rule.write_text("class Rule: ...\n")
    name = write_data(tmp_path / "images")

    def record():
        cfg = load_config(None, ["MODEL.ASSIGNER.NAME", f"{rule}:Rule"])
        data = open_dataset(name, root=tmp_path, training=True)
        record_inputs([SimpleNamespace(folder=folder, cfg=cfg)], [data])
        return json.loads((folder / NAME).read_text())

    return SimpleNamespace(record=record, rule=rule, folder=folder, root=tmp_path)


def test_other_contents_are_refused_once_a_checkpoint_is_there(begun):
    first = begun.record()
    assert [*first] == [str(begun.root / "images/boxes.json"), str(begun.rule)]
    begun.rule.write_text("class Rule: pass\n")  # a fault is corrected before anything is learnt
    second = begun.record()
    assert [a == b for a, b in zip(first.values(), second.values(), strict=True)] == [True, False]
    (begun.folder / "last_checkpoint").write_text("model_0000002.pth")
    assert begun.record() == second
    begun.rule.write_text("class Rule: ...\n")
    with pytest.raises(UserError, match=r"seed_0: its run began with other .*rule\.py; choose"):
        begun.record()
    begun.rule.write_text("class Rule: pass\n")
    write_data(begun.root / "images", boxes=1)
    with pytest.raises(UserError, match=r"other contents of .*boxes\.json"):
        begun.record()
    assert json.loads((begun.folder / NAME).read_text()) == second


def test_runs_of_a_version_that_recorded_nothing_go_on(begun):
    begun.record()
    (begun.folder / NAME).unlink()
    (begun.folder / "last_checkpoint").write_text("model_0000002.pth")
    begun.rule.write_text("class Rule: pass\n")
    assert begun.record()


def test_a_damaged_record_is_one_line(begun):
    begun.record()
    (begun.folder / "last_checkpoint").write_text("model_0000002.pth")
    (begun.folder / NAME).write_text("[1]")
    with pytest.raises(UserError, match=r"inputs\.json: cannot be read"):
        begun.record()
