"""Tests which checkpoint a run resumes from, by the contents of the files."""

import os
import zipfile

import pytest
import torch

from dynamic_atss.engine import checkpoint, newest_checkpoint
from dynamic_atss.engine.checkpoint import Checkpointer, save_checkpoint
from dynamic_atss.engine.newest_checkpoint import find_newest, read_complete
from dynamic_atss.errors import UserError
from dynamic_atss.weights.unpickle import outline, read_checkpoint


@pytest.fixture
def run(tmp_path):
    """Makes checkpoints of iterations 4, 8 and 12; the best is that of 8."""
    saver = Checkpointer(tmp_path)
    for iteration, name in ((4, "model_0000004"), (8, "model_0000008"), (12, "model_final")):
        saver.save(name, {"iteration": iteration, "model": {"w": torch.rand(5000)}})
        if iteration == 8:
            saver.mark_best()
    return tmp_path


def flip(path):
    """Flips a bit in the middle of the weights."""
    with zipfile.ZipFile(path) as archive:
        (entry,) = (i for i in archive.infolist() if i.file_size == 20_000)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 9000] ^= 1
    path.write_bytes(data)


def test_last_checkpoint_names_the_file(run, caplog):
    assert find_newest(run).path == run / "model_final.pth"
    (run / "last_checkpoint").write_text("/moved/from/model_0000004.pth\n")
    assert find_newest(run).path == run / "model_0000004.pth"
    assert not caplog.records


@pytest.mark.parametrize(
    ("pointer", "fault"),
    [
        (b"", "last_checkpoint names no file: it is empty"),
        (b"\xff\xfe\x00model", "last_checkpoint is damaged"),
        (b"model_0000099.pth", "last_checkpoint names 'model_0000099.pth', which does not exist"),
        (b"\x00", "last_checkpoint names '\\x00', which does not exist"),
        (b"m" * 4000, "File name too long"),
        (b"m" * 5000, "last_checkpoint names no file (has 5,000 bytes"),
        (b"a\x1b[31m\nerror: x", r"names 'a\x1b[31m\nerror: x', which does not exist"),
    ],
)
def test_a_useless_last_checkpoint(run, caplog, pointer, fault):
    (run / "last_checkpoint").write_bytes(pointer)
    assert find_newest(run).path == run / "model_final.pth"
    (record,) = caplog.records
    assert fault in record.message
    assert record.message.endswith(f"{run / 'model_final.pth'}, iteration 12")


def test_the_content_counts_not_the_name(run):
    (run / "last_checkpoint").unlink()
    (run / "model_final.pth").rename(run / "model_0000001.pth")
    assert find_newest(run).path == run / "model_0000001.pth"


def test_a_damaged_newest_falls_back_to_the_one_before(run, caplog):
    flip(run / "model_final.pth")
    assert find_newest(run).path == run / "model_0000008.pth"
    assert "model_final.pth is truncated or damaged, or" in caplog.text
    assert "model_0000008.pth, iteration 8" in caplog.text


def test_the_best_is_used_if_only_it_is_complete(run, caplog):
    """The best is made a copy, as damage to a file with two names would hit both."""
    best = run / "model_best.pth"
    best.write_bytes(best.read_bytes())
    for name in ("model_0000004", "model_0000008", "model_final"):
        path = run / f"{name}.pth"
        path.unlink()
        path.write_bytes(b"PK\x03\x04")
    assert find_newest(run).path == best
    flip(best)
    with pytest.raises(UserError, match=r"no other checkpoint there is complete \(.*OUTPUT_DIR"):
        find_newest(run)


def test_a_run_whose_checkpoints_are_lost_does_not_start_at_0(run):
    for path in run.glob("*.pth"):
        path.unlink()
    with pytest.raises(UserError, match=r"'model_final\.pth', which does not exist: no other"):
        find_newest(run)


def test_a_folder_without_checkpoints(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    assert find_newest(tmp_path) is None
    assert find_newest(tmp_path / "absent") is None


def test_a_fifo_is_no_checkpoint(run):
    os.mkfifo(run / "model_0000100.pth")
    (run / "last_checkpoint").unlink()
    assert find_newest(run).path == run / "model_final.pth"


def test_truncation_anywhere_is_detected(tmp_path):
    path = tmp_path / "model_0000001.pth"
    save_checkpoint(path, {"iteration": 1, "model": {"w": torch.rand(500)}})
    data = path.read_bytes()
    assert read_complete(path).content["iteration"] == 1
    for percent in range(0, 100, 5):
        path.write_bytes(data[: len(data) * percent // 100])
        assert read_complete(path) is None, percent


def test_a_checkpoint_to_resume_is_read_once(run, monkeypatch):
    read = []
    monkeypatch.setattr(
        newest_checkpoint,
        "read_checkpoint",
        lambda path: read.append(path) or read_checkpoint(path),
    )
    monkeypatch.setattr(
        checkpoint, "read_checkpoint", lambda path: read.append(path) or read_checkpoint(path)
    )
    saver = Checkpointer(run)
    path = saver.find()
    assert saver.load(path)["iteration"] == 12 and read == [run / "model_final.pth"]
    assert saver.load(path)["iteration"] == 12 and len(read) == 2  # its content is not kept


def test_the_iteration_is_read_without_running_code(run):
    """The pickle of the file would run a command. The weights stay on the disk."""
    (run / "last_checkpoint").unlink()
    torch.save({"format": "dynamic_atss/1", "iteration": 99, "x": os.system}, run / "model_99.pth")
    assert find_newest(run).path == run / "model_final.pth"
    seen = outline(run / "model_final.pth")
    assert seen["iteration"] == 12 and seen["model"]["w"].is_meta
    assert seen["model"]["w"].shape == (5000,)


@pytest.mark.parametrize("kind", ["empty zip", "foreign zip", "weights", "no model"])
def test_a_complete_file_that_is_no_checkpoint_of_a_run(run, caplog, kind):
    path = run / "model_final.pth"
    if "zip" in kind:
        with zipfile.ZipFile(path, "w") as archive:
            if kind == "foreign zip":
                archive.writestr("a.txt", "hello")
    else:
        without_model = {"format": "dynamic_atss/1", "iteration": 20}
        torch.save({"w": torch.zeros(3)} if kind == "weights" else without_model, path)
    assert find_newest(run).path == run / "model_0000008.pth"
    message = caplog.records[0].message
    assert "model_final.pth is truncated or damaged, or no checkpoint of a run" in message
