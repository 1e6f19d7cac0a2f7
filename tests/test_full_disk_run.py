"""Tests full disks and impossible folders: a log may be lost, the training is not."""

import subprocess
import sys

import pytest
from helpers_run import call_tool, environment, start_tool, write_config

from dynamic_atss.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return [*write_config(tmp_path_factory.mktemp("tiny")), "--skip-test", "SOLVER.MAX_ITER", 4]


@pytest.fixture
def train(config, monkeypatch):
    return lambda *args: call_tool(monkeypatch, "train_net", [*config, *args])


def error_of(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_a_disk_that_is_full_only_for_the_logs(train, tmp_path, capsys):
    """Each loss of lines is reported once, and the checkpoints are complete."""
    for name in ("log.txt", "metrics.jsonl"):
        (tmp_path / name).symlink_to("/dev/full")
    assert train("OUTPUT_DIR", tmp_path, "--resume", "SOLVER.LOG_PERIOD", 1) == 0
    out, err = capsys.readouterr()
    assert out.count("metrics.jsonl: lines are lost (No space left on device)") == 1
    assert err.startswith(str(tmp_path / "log.txt")) and err.count("\n") == 1
    assert "No space left on device" in err
    assert load_checkpoint(tmp_path / "model_final.pth")["iteration"] == 4


# The limit is on the size of each file of the process.
LIMITED = """
import resource, sys
from dynamic_atss.engine.logger import setup_logging
from dynamic_atss.engine.metrics import MetricsWriter
log = setup_logging(sys.argv[1])
with MetricsWriter(sys.argv[1]) as metrics:
    metrics.write(1, {"loss": 1.0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    for i in range(2, 400):
        metrics.write(i, {"loss": 1.0})
        log.info("line %d", i)
        metrics.write_run("text " * 100, "config", {"a": 1}, ["set"])
print("trained on")
"""


def test_files_that_cannot_grow_any_more(tmp_path):
    """This includes the files that TensorBoard's thread writes. Pipes have no limit."""
    args = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(args, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith("trained on\n"), done.stderr
    assert done.stderr.startswith(str(tmp_path / "log.txt")) and done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    for text in ("metrics.jsonl: lines are lost (File too large)", "events cannot be written any"):
        assert done.stdout.count(text) == 1
    assert (tmp_path / "metrics.jsonl").stat().st_size == 3000


def test_a_console_that_cannot_be_written(config, tmp_path):
    args, errors = [*config, "OUTPUT_DIR", tmp_path / "run"], tmp_path / "stderr"
    with open("/dev/full", "w") as full, open(errors, "w") as err:
        start_tool("train_net", args, stdout=full, stderr=err).wait()
    text = errors.read_text()
    assert text.startswith("the log on the console: lines are lost (No space left")
    assert "Traceback" not in text and (tmp_path / "run/model_final.pth").is_file()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("n" * 300, "File name too long"), ("file/run", "Not a directory"), ("file", "File exists")],
)
def test_a_folder_that_cannot_be_made(train, tmp_path, capsys, name, reason):
    (tmp_path / "file").touch()
    for more in ((), ("--resume",)):
        assert train("OUTPUT_DIR", tmp_path / name, *more) == 2
        line = error_of(capsys)
        assert line.endswith(f": cannot be made ({reason}); choose another folder")


@pytest.mark.parametrize("name", ["config.yaml", "run.lock"])
def test_a_disk_that_is_full_at_the_start(train, tmp_path, capsys, monkeypatch, name):
    """If a needed file cannot be written, the run ends with one line and no incomplete file."""
    import errno
    import os

    function = {"config.yaml": "fsync", "run.lock": "pwrite"}[name]
    real = getattr(os, function)

    def full(file, *args):
        path = os.readlink(f"/proc/self/fd/{file}")
        if name in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, *args)

    monkeypatch.setattr(os, function, full)
    assert train("OUTPUT_DIR", tmp_path / "run") == 2
    line = error_of(capsys)
    assert f"{name}" in line and "No space left on device" in line
    left = {p.name for p in (tmp_path / "run").iterdir()} - {"log.txt", "run.lock"}
    assert not left


def test_a_name_that_is_not_utf_8(train, tmp_path, capsys):
    assert train("OUTPUT_DIR", tmp_path / "run\udcff") == 2
    assert error_of(capsys).endswith("run\\udcff': is not UTF-8; choose another name")
    assert not list(tmp_path.iterdir())
