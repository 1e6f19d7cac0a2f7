"""Tests signals that ask a run to end: exit code, checkpoint and last lines."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers_run import LAUNCH, command, environment, read_lines, run_tool, start_tool, write_config

from dynamic_atss.processes import SIGNALS

pytestmark = pytest.mark.slow

NAMES = [number.name for number in SIGNALS]

# Each step takes long enough that a signal comes in the middle of one.
CODE = """
import os, time
from pathlib import Path
from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.data.coco import CocoDataset

HERE = Path(__file__).parent

class Slow(ATSS):
    seconds = 0.2

    def __call__(self, *args):
        (HERE / f"step_of_{os.getpid()}").touch()
        time.sleep(self.seconds)
        return super().__call__(*args)

class VerySlow(Slow):
    seconds = 30

class SlowStart(ATSS):
    made = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        SlowStart.made += 1
        if SlowStart.made == 2:  # the first is only for checks
            (HERE / f"start_of_{os.getpid()}").touch()
            time.sleep(30)

class SlowTest(CocoDataset):
    def __getitem__(self, i):
        (HERE / f"test_of_{os.environ.get('RANK', '0')}").touch()
        time.sleep(5)
        return super().__getitem__(i)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    more = ["SOLVER.MAX_ITER", 12, "SOLVER.CHECKPOINT_PERIOD", 50, "SOLVER.LOG_PERIOD", 1]
    return [*write_config(folder), *more]


@pytest.fixture
def args(config, tmp_path):
    """Gives the arguments of the tiny run with a rule of `CODE`, in tmp_path/run."""
    (tmp_path / "code.py").write_text(CODE)
    return [*config, *rule(tmp_path, "Slow"), "OUTPUT_DIR", tmp_path / "run", "--skip-test"]


def rule(folder: Path, name: str) -> list[str]:
    return ["MODEL.ASSIGNER.NAME", f"{folder / 'code.py'}:{name}"]


@contextmanager
def running(args, folder: Path, launcher=(), words=(), before=()):
    """Starts a training in a new process group, which writes to folder/out; kills it at the end.

    Args:
        words: Python's arguments, instead of a tool of tools/ and its launcher.
        before: a command that starts it.
    """
    with open(folder / "out", "w") as file:
        options = {"stdout": file, "stderr": file, "start_new_session": True}
        if words or before:
            typed = [sys.executable, *words, *map(str, args)]
            typed = [*before, *(typed if words else command("train_net", args, launcher))]
            process = subprocess.Popen(typed, env=environment(), **options)
        else:
            process = start_tool("train_net", args, launcher, **options)
    pids = []
    try:
        yield process
        pids = descendants(process.pid)
    finally:
        for pid in [*pids, *descendants(process.pid), process.pid]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [*map(int, children), *(x for child in children for x in descendants(int(child)))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, process, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        assert process.poll() is None, f"the run ended with {process.returncode}"
        time.sleep(0.02)


def has_lines(run: Path, count: int):
    return lambda: (run / "metrics.jsonl").is_file() and len(read_lines(run)) >= count


def check_end(folder: Path, name: str, code: int) -> str:
    """Checks the files of a run that the signal ended; returns the command of its last line."""
    out, run = (folder / "out").read_text(), folder / "run"
    assert "Traceback" not in out
    path = run / (run / "last_checkpoint").read_text()
    iteration = torch.load(path, weights_only=True)["iteration"]
    assert 2 <= iteration < 12 and path.name == f"model_{iteration:07d}.pth"
    log = (run / "log.txt").read_text().splitlines()
    warnings = [line.partition(" WARNING ")[2] for line in log]
    assert warnings[-2].startswith(name) and warnings[-2].endswith(f"exit code {code}")
    assert f"iteration {iteration}" in warnings[-2] and str(path) in warnings[-2]
    assert warnings[-1].startswith("to continue: ") and warnings[-1].endswith(" --resume")
    assert not (run / "run.lock").exists() and not list(run.glob(".*"))
    return warnings[-1].removeprefix("to continue: ")


@pytest.mark.parametrize("name", NAMES)
def test_one_process(args, tmp_path, name):
    number = getattr(signal, name)
    with running(args, tmp_path) as process:
        wait_for(has_lines(tmp_path / "run", 2), process)
        os.kill(process.pid, number)
        assert process.wait(timeout=120) == 128 + number
    typed = check_end(tmp_path, name, 128 + number)
    if name == "SIGUSR1":  # the line is a command that continues the run
        done = subprocess.run(
            shlex.split(typed), env=environment(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert [line["iteration"] for line in read_lines(tmp_path / "run")] == [*range(1, 13)]


@pytest.mark.parametrize("launcher", [(), LAUNCH])
def test_under_nohup_a_closed_terminal_does_not_end_the_run(args, tmp_path, launcher):
    with running(args, tmp_path, launcher, before=["nohup"]) as process:
        wait_for(has_lines(tmp_path / "run", 2), process)
        os.killpg(process.pid, signal.SIGHUP)
        for pid in descendants(process.pid):  # the workers are in other process groups
            os.kill(pid, signal.SIGHUP)
        assert process.wait(timeout=120) == 0
    assert len(read_lines(tmp_path / "run")) == 12


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("SIGTERM", "launcher"),
        ("SIGINT", "launcher"),
        ("SIGUSR2", "launcher"),
        ("SIGHUP", "one"),
        ("SIGUSR1", "one"),
    ],
)
def test_two_processes(args, tmp_path, name, to):
    """A signal to only one process stops both."""
    number = getattr(signal, name)
    with running(args, tmp_path, LAUNCH) as process:
        wait_for(has_lines(tmp_path / "run", 2), process)
        target = process.pid if to == "launcher" else descendants(process.pid)[1]
        os.kill(target, number)
        assert process.wait(timeout=120) == 128 + number
    check_end(tmp_path, name, 128 + number)


def test_two_processes_of_the_launch_command(args, tmp_path):
    """The last line is the typed command with --resume, which continues the run."""
    words = ["-m", "dynamic_atss", "launch", *LAUNCH[1:], "train"]
    with running(args, tmp_path, words=words) as process:
        wait_for(has_lines(tmp_path / "run", 2), process)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 143
    typed = shlex.split(check_end(tmp_path, "SIGTERM", 143))
    assert typed == [sys.executable, *words, *map(str, args), "--resume"]
    done = subprocess.run(typed, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line["iteration"] for line in read_lines(tmp_path / "run")] == [*range(1, 13)]


def test_ctrl_c_also_reaches_the_workers_and_loses_nothing(args, tmp_path):
    with running([*args, "DATALOADER.NUM_WORKERS", 2], tmp_path) as process:
        wait_for(has_lines(tmp_path / "run", 2), process)
        workers = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130
        assert len(workers) == 2 and not any(map(alive, workers))
    check_end(tmp_path, "SIGINT", 130)


@pytest.mark.parametrize("launcher", [[], LAUNCH], ids=["one", "two"])
def test_a_second_sigint_ends_at_once(args, tmp_path, launcher):
    """It comes in a step of half a minute, after which one SIGINT would save."""
    more = [*rule(tmp_path, "VerySlow"), "DATALOADER.NUM_WORKERS", 1]
    steps = 2 if launcher else 1
    with running([*args, *more], tmp_path, launcher) as process:
        wait_for(lambda: len(list(tmp_path.glob("step_of_*"))) == steps, process)
        others = descendants(process.pid)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(1)  # so that the next SIGINT is another press
        assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 130
        wait_until_gone(others)
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert not (tmp_path / "run/last_checkpoint").exists()
    ended = run_tool("train_net", [*args, "SOLVER.MAX_ITER", 1, "--resume"])
    assert ended.returncode == 0, ended.stderr
    assert "run.lock is taken over" in ended.stdout


def wait_until_gone(pids, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while any(map(alive, pids)):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.02)


@pytest.mark.parametrize("launcher", [[], LAUNCH], ids=["one", "two"])
def test_before_the_first_iteration(args, tmp_path, launcher):
    steps = 2 if launcher else 1
    with running([*args, *rule(tmp_path, "SlowStart")], tmp_path, launcher) as process:
        wait_for(lambda: len(list(tmp_path.glob("start_of_*"))) == steps, process)
        process.terminate()
        assert process.wait(timeout=25) == 143
    out = (tmp_path / "out").read_text()
    assert "Traceback" not in out and "there is no checkpoint yet; exit code 143" in out


@pytest.mark.parametrize("to", ["launcher", "one"])
def test_in_a_test_of_two_processes(args, tmp_path, to):
    """It ends at once, as everything is saved, even if only one process gets the signal."""
    root = Path(args[3]) / "shapes"
    test = f"{tmp_path / 'code.py'}:SlowTest:{root}/annotations/val.json:{root}/val"
    more = ["TEST.PERIOD", 2, "DATASETS.TEST", test, "TEST.IMS_PER_BATCH", 2]
    with running([*args, *more], tmp_path, LAUNCH) as process:
        wait_for(lambda: len(list(tmp_path.glob("test_of_*"))) == 2, process)
        os.kill(process.pid if to == "launcher" else descendants(process.pid)[1], signal.SIGUSR1)
        assert process.wait(timeout=120) == 138
    out = (tmp_path / "out").read_text()
    assert "Traceback" not in out
    assert "iteration 2 is saved in" in out and "to continue: " in out


def test_a_second_run_in_the_folder_is_refused_and_a_test_is_not(args, tmp_path):
    run, every = tmp_path / "run", ["SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 1000]
    with running([*args, *every], tmp_path) as process:
        wait_for(has_lines(run, 2), process)
        for more in ([], ["--resume"]):
            second = run_tool("train_net", [*args, *more])
            assert second.returncode == 2 and "Traceback" not in second.stderr
            assert f"another run uses it (process {process.pid} on " in second.stderr
        tested = [x for x in args if x != "--skip-test"]
        assert run_tool("test_net", tested).returncode == 0
        assert process.poll() is None
    assert (run / "inference/shapes_val/coco_metrics.json").is_file()
