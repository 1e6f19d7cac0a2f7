"""Tests checkpoints: writing is atomic, reading gives the same, errors give advice."""

import errno
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from dynamic_atss import files
from dynamic_atss.engine import checkpoint
from dynamic_atss.engine.checkpoint import Checkpointer, load_checkpoint, save_checkpoint
from dynamic_atss.errors import UserError


def _files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_round_trip_of_a_training_state(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": 7,
        "rng": [torch.get_rng_state(), (3, (1, 2), None)],
    }
    path = Checkpointer(tmp_path).save("model_0000007", content)
    assert path == tmp_path / "model_0000007.pth" == Checkpointer(tmp_path).find()
    loaded = load_checkpoint(path)
    assert loaded["iteration"] == 7 and loaded["rng"][1] == (3, (1, 2), None)
    assert loaded["rng"][0].equal(content["rng"][0])
    assert loaded["model"]["weight"].equal(model.weight)
    moment = optimizer.state[model.weight]["exp_avg"]
    assert loaded["optimizer"]["state"][0]["exp_avg"].equal(moment)
    assert _files(tmp_path) == ["last_checkpoint", "model_0000007.pth"]


def test_last_checkpoint_moves_with_the_folder(tmp_path):
    saver = Checkpointer(tmp_path / "a")
    assert saver.find() is None
    saver.save("model_0000001", {"model": {}, "iteration": 1})
    (tmp_path / "a").rename(tmp_path / "b")
    assert Checkpointer(tmp_path / "b").find() == tmp_path / "b" / "model_0000001.pth"


def test_a_run_killed_before_last_checkpoint_resumes_from_the_newest(tmp_path):
    for i in (9, 10):
        save_checkpoint(tmp_path / f"model_{i:07d}.pth", {"model": {}, "iteration": i})
    save_checkpoint(tmp_path / "model_best.pth", {"model": {}, "iteration": 9})
    assert Checkpointer(tmp_path).find().name == "model_0000010.pth"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "model_0000005.pth", None])
def test_holds_run(tmp_path, name):
    (tmp_path / "log.txt").touch()
    if name:
        (tmp_path / name).touch()
    assert Checkpointer(tmp_path).holds_run() is (name is not None)
    assert not Checkpointer(tmp_path / "absent").holds_run()


def test_failing_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    saver = Checkpointer(tmp_path)
    path = saver.save("model_0000001", {"model": {"w": torch.ones(3)}, "iteration": 1})
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"model_0000001\.pth: .*No space left on device"):
        saver.save("model_0000001", {"model": {"w": torch.zeros(3)}, "iteration": 1})
    assert path.read_bytes() == before
    assert _files(tmp_path) == ["last_checkpoint", "model_0000001.pth"]


# A file size limit makes torch.save fail as a full disk does. A new process sets it, as the limit
# stays, and a forked process could not use torch's threads.
_FULL_DISK = """
import resource, signal, sys, torch
from dynamic_atss.engine.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
save_checkpoint(sys.argv[1], {"model": {"w": torch.zeros(100_000)}})
"""


@pytest.mark.slow
def test_disk_full_while_torch_writes(tmp_path):
    target = tmp_path / "model_0000001.pth"
    save_checkpoint(target, {"model": {}})
    before = target.read_bytes()
    command = [sys.executable, "-c", _FULL_DISK, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "UserError" in done.stderr and "File too large" in done.stderr
    assert target.read_bytes() == before and _files(tmp_path) == [target.name]


def test_impossible_folder_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as error:
        save_checkpoint(tmp_path / "file" / "x.pth", {"model": {}})
    assert "\n" not in str(error.value) and "file/x.pth" in str(error.value)


@pytest.mark.slow
def test_a_run_killed_while_saving_leaves_a_complete_checkpoint(tmp_path):
    code = (
        "import sys, torch\n"
        "from dynamic_atss.engine.checkpoint import Checkpointer\n"
        "saver = Checkpointer(sys.argv[1])\n"
        "for i in range(10**6):\n"
        "    w = torch.full((200_000,), i)\n"
        "    saver.save(f'model_{i % 3:07d}', {'model': {'w': w}, 'iteration': i})\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(4):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    values = load_checkpoint(Checkpointer(tmp_path).find())["model"]["w"]
    assert values.unique().numel() == 1 and values[0] >= 3
    assert all(load_checkpoint(p)["model"] for p in tmp_path.glob("model_*.pth"))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_damaged_checkpoint_names_an_earlier_one(tmp_path, damage):
    saver = Checkpointer(tmp_path)
    for i in (1, 2, 3):
        saver.save(f"model_{i:07d}", {"model": {"w": torch.rand(5000)}, "iteration": i})
    last = saver.find()
    data = bytearray(last.read_bytes())
    with zipfile.ZipFile(last) as archive:
        inside = next(i for i in archive.infolist() if i.file_size == 20_000).header_offset + 9000
    data[inside] ^= 0xFF
    new = {"truncate": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"hello"}[damage]
    last.write_bytes(new)
    (tmp_path / "model_0000002.pth").write_bytes(b"PK")
    with pytest.raises(UserError) as error:
        load_checkpoint(last)
    message = str(error.value)
    assert "model_0000003.pth" in message and "model_0000001.pth" in message
    assert "model_0000002" not in message and "\n" not in message


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "model_0000001.pth")
    torch.save({"model": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not a checkpoint of a run; no other checkpoint"):
        load_checkpoint(tmp_path / "other.pth")
    torch.save({"format": "dynamic_atss/99", "model": {}}, tmp_path / "later.pth")
    with pytest.raises(UserError, match="dynamic_atss/99"):
        load_checkpoint(tmp_path / "later.pth")


def test_a_value_that_could_not_be_read_is_not_written(tmp_path):
    node = CfgNode({"LR": 0.1})
    for value in (np.float64(0.5), np.zeros(2), object(), node):
        with pytest.raises(TypeError, match=r"checkpoint\['rng'\]\[1\]"):
            save_checkpoint(tmp_path / "x.pth", {"rng": [0, value]})
    assert _files(tmp_path) == []


def _save(saver, *iterations):
    for i in iterations:
        saver.save(f"model_{i:07d}", {"iteration": i, "model": {"w": torch.full((3,), i)}})


def _numbers(folder):
    return sorted(int(p.stem[6:]) for p in folder.glob("model_[0-9]*.pth"))


def test_the_newest_stay_and_the_final_and_the_best(tmp_path):
    saver = Checkpointer(tmp_path, keep=2)
    _save(saver, 5, 10)
    saver.mark_best()
    _save(saver, 15, 100_000, 2_000_000)
    saver.save("model_final", {"iteration": 2_000_005, "model": {}})
    assert _numbers(tmp_path) == [100_000, 2_000_000]
    assert load_checkpoint(tmp_path / "model_best.pth")["iteration"] == 10
    assert saver.find().name == "model_final.pth"
    assert not list(tmp_path.glob(".*"))


def test_all_stay_by_default(tmp_path):
    _save(Checkpointer(tmp_path), 5, 10, 15)
    assert _numbers(tmp_path) == [5, 10, 15]


def test_the_file_just_written_stays_beside_those_of_later_iterations(tmp_path):
    """A run that went back has such files; 10 would be the oldest."""
    _save(Checkpointer(tmp_path), 5, 20, 30)
    saver = Checkpointer(tmp_path, keep=1)
    _save(saver, 10)
    assert _numbers(tmp_path) == [10, 20, 30]
    assert load_checkpoint(saver.find())["iteration"] == 10


def test_nothing_is_deleted_before_the_new_file_is_complete(tmp_path, monkeypatch):
    saver = Checkpointer(tmp_path, keep=1)
    _save(saver, 5)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError):
        _save(saver, 10)
    assert _numbers(tmp_path) == [5]
    assert load_checkpoint(saver.find())["iteration"] == 5


@pytest.mark.parametrize("links", [True, False])
def test_later_saves_do_not_change_the_best(tmp_path, monkeypatch, links):
    """This also holds for a save under the name of the file to which the best was linked."""
    if not links:
        monkeypatch.setattr(files.os, "link", lambda *_: (_ for _ in ()).throw(OSError("none")))
    saver = Checkpointer(tmp_path)
    for value in (1, 2):
        saver.save("model_final", {"iteration": value, "model": {}})
        saver.mark_best()
        saver.mark_best()
        assert load_checkpoint(tmp_path / "model_best.pth")["iteration"] == value
    saver.save("model_final", {"iteration": 3, "model": {}})
    assert load_checkpoint(tmp_path / "model_best.pth")["iteration"] == 2
    assert _files(tmp_path) == ["last_checkpoint", "model_best.pth", "model_final.pth"]


def test_a_checkpoint_that_cannot_be_deleted_is_logged(tmp_path, monkeypatch, caplog):
    saver = Checkpointer(tmp_path, keep=1)
    _save(saver, 5)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, "unlink", refuse)
        _save(saver, 10)
    assert _numbers(tmp_path) == [5, 10]
    assert "model_0000005.pth: cannot be deleted (Operation not permitted)" in caplog.text
