"""Tests that only one run uses a folder: which is refused, and whose lock is taken over."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from dynamic_atss.engine import lock as lock_module
from dynamic_atss.engine.lock import Lock
from dynamic_atss.engine.lock_owner import LockOwner
from dynamic_atss.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from dynamic_atss.engine.lock import Lock
Lock(Path(sys.argv[1])).take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A process that holds the lock of tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def write_holder(folder, seconds_old=0.0, **changes):
    path = folder / "run.lock"
    path.write_text(json.dumps({**json.loads(LockOwner.this_process().text()), **changes}))
    then = time.time() - seconds_old
    os.utime(path, (then, then))
    return path


def test_a_second_run_is_refused_with_host_process_and_start(held, tmp_path):
    content = json.loads((tmp_path / "run.lock").read_text())
    with pytest.raises(UserError) as refused:
        Lock(tmp_path).take()
    line = str(refused.value)
    assert f"process {held.pid} on {socket.gethostname()}, since {content['began']}" in line
    assert str(tmp_path) in line and "\n" not in line
    assert json.loads((tmp_path / "run.lock").read_text()) == content


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_the_lock_of_a_killed_process_is_taken_over_and_of_a_stopped_one_is_not(
    held, tmp_path, caplog, end
):
    os.kill(held.pid, end)
    lock = Lock(tmp_path)
    if end == signal.SIGSTOP:
        with pytest.raises(UserError, match="another run uses it"):
            lock.take()
        return
    held.wait()
    lock.take()
    assert f"taken over: its owner has ended (process {held.pid} on" in caplog.text
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    lock.release()


def test_release_leaves_nothing_and_the_lock_can_be_taken_again(tmp_path, caplog):
    for _ in range(2):
        lock = Lock(tmp_path)
        lock.take()
        lock.release()
        lock.release()
        assert not list(tmp_path.iterdir())
    assert not caplog.records


def test_the_file_of_another_run_is_not_deleted(held, tmp_path):
    """A user has deleted the file of this run."""
    folder = tmp_path / "other"
    folder.mkdir()
    lock = Lock(folder)
    lock.take()
    (folder / "run.lock").unlink()
    write_holder(folder)
    lock.release()
    assert (folder / "run.lock").exists()


def test_a_holder_on_another_machine_counts_while_it_gives_signs_of_life(tmp_path):
    write_holder(tmp_path, host="far-away", pid=7)
    with pytest.raises(UserError) as refused:
        Lock(tmp_path).take()
    assert "process 7 on far-away" in str(refused.value)
    assert f"delete {tmp_path / 'run.lock'}" in str(refused.value)
    assert not [p for p in tmp_path.iterdir() if p.name != "run.lock"]


def test_a_silent_holder_on_another_machine_is_taken_over(tmp_path, caplog):
    write_holder(tmp_path, seconds_old=1000, host="far-away")
    lock = Lock(tmp_path)
    lock.take()
    assert "far-away" in caplog.text
    lock.release()


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.01)
    lock = Lock(tmp_path)
    lock.take()
    path = tmp_path / "run.lock"
    os.utime(path, (0, 0))
    end = time.monotonic() + 30
    while path.stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    lock.release()


def test_a_restart_of_the_launcher_is_the_same_run(tmp_path, monkeypatch):
    write_holder(tmp_path, host="far-away", launch="job-7")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    lock = Lock(tmp_path)
    lock.take()
    lock.release()
    write_holder(tmp_path, host="far-away", launch="")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="another run uses it"):
        Lock(tmp_path).take()


def without_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [({}, True), ({"pid": 2**22 + 1}, False), ({"born": "1 another-start"}, False)],
    ids=["running", "ended", "id used again"],
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, changes, refused):
    """The lock checks the process itself."""
    monkeypatch.setattr(lock_module.fcntl, "lockf", without_locks)
    write_holder(tmp_path, **changes)
    lock = Lock(tmp_path)
    if refused:
        with pytest.raises(UserError, match=f"process {os.getpid()} on"):
            lock.take()
    else:
        lock.take()
        lock.release()


FORGED = b'{"host": "a\\nerror: b", "pid": 1, "began": "now"}'


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"[1, 2]", b'{"pid": 1}', b"[" * 4000, FORGED], ids=range(6)
)
def test_a_damaged_file_does_not_hold_the_lock(tmp_path, text):
    (tmp_path / "run.lock").write_bytes(text)
    lock = Lock(tmp_path)
    lock.take()
    assert LockOwner.read((tmp_path / "run.lock").read_bytes()).pid == os.getpid()
    lock.release()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock_module.os, "pwrite", full)
    with pytest.raises(UserError, match=r"run\.lock cannot be written \(No space left on device\)"):
        Lock(tmp_path).take()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / "run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"run\.lock cannot be written"):
        Lock(tmp_path).take()
    assert (tmp_path / "precious").read_text() == "text"
