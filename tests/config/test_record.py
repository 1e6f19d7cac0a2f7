"""Tests that --resume logs a changed configuration, and keeps the former file."""

import pytest

from dynamic_atss.config.load import load_config
from dynamic_atss.config.record import changes, log_changes, write_config

DATA = ["DATASETS.TRAIN", "('a', 'b')", "MODEL.ATSS.ANCHOR_SIZES", "(64, 128, 256, 512, 1024)"]


def config(*overrides):
    return load_config(None, overrides)


def test_each_changed_key_with_both_values():
    old, new = config(*DATA), config("DATASETS.TRAIN", "('a',)", "SOLVER.BASE_LR", "0.5")
    assert changes(old.dump(), new.dump()) == [
        "DATASETS.TRAIN ('a', 'b') -> ('a',)",
        "SOLVER.BASE_LR 0.001 -> 0.5",
    ]
    assert changes(new.dump(), new.dump()) == []


def test_keys_of_another_version_and_types():
    old = "A:\n  GONE: [[1, 2]]\n  SAME: x\n  KIND: 1\n"
    new = "A:\n  SAME: x\n  KIND: true\n  NEW: ''\n"
    assert changes(old, new) == [
        "A.KIND 1 -> True",
        "A.NEW (not set) -> ''",
        "A.GONE ((1, 2),) -> (not set)",
    ]


@pytest.mark.parametrize("text", [b"", b"- 1", b"a: [", b"\xff\xfe", b"[" * 5000])
def test_a_file_that_is_no_configuration_is_logged_and_kept(tmp_path, caplog, text):
    (tmp_path / "config.yaml").write_bytes(text)
    log_changes(config(), tmp_path)
    [line] = caplog.messages
    assert "cannot be compared" in line and "\n" not in line
    write_config(config(), tmp_path, 7)
    assert (tmp_path / "config-before-0000007.yaml").read_bytes() == text
    assert (tmp_path / "config.yaml").read_text() == config().dump()


def test_kept_files_are_never_overwritten(tmp_path):
    rates = ("0.1", "0.2", "0.3", "0.4")
    for rate in rates:
        write_config(config("SOLVER.BASE_LR", rate), tmp_path, 12)
    names = [f"config-before-0000012{x}.yaml" for x in ("", "-2", "-3")]
    for name, rate in zip([*names, "config.yaml"], rates, strict=True):
        assert f"BASE_LR: {rate}" in (tmp_path / name).read_text()
    assert len(list(tmp_path.iterdir())) == 4


def test_without_a_change_nothing_is_kept_or_logged(tmp_path, caplog):
    log_changes(config(), tmp_path)
    for _ in range(2):
        write_config(config(), tmp_path, 3)
        log_changes(config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert caplog.messages == []
