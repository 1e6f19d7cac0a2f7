"""Tests runs that reach a limit of the system: one line, exit code 2, and nothing is lost."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers_run import (
    command,
    environment,
    load_module,
    read_lines,
    run_program,
    run_tool,
    start_tool,
    write_config,
)
from test_distributed import FROZEN, TORCHRUN

pytestmark = pytest.mark.slow

kill_and_resume = load_module("benchmarks/kill_and_resume.py")

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    args = write_config(tmp_path_factory.mktemp("tiny"))
    return [*args, *FROZEN, "DATALOADER.NUM_WORKERS", 2, "--skip-test"]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def last_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "error: " in line]
    assert len(lines) == 1 and "Traceback" not in stderr.partition("error: ")[0], stderr
    return lines[0]


def killed_under_way(args, out: Path, launcher=()) -> str:
    """Kills a worker of the first training process after three iterations; returns stderr."""
    errors = out.with_name("stderr")
    with open(errors, "w") as err, open(os.devnull, "w") as log:
        process = start_tool(
            "train_net", [*args, "OUTPUT_DIR", out], launcher, stdout=log, stderr=err
        )
    try:
        end = time.monotonic() + 300  # for a process that hangs
        while not (out / "metrics.jsonl").is_file() or len(read_lines(out)) < 3:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        training = children(process.pid)[0] if launcher else process.pid
        os.kill(children(training)[0], signal.SIGKILL)
        assert process.wait(timeout=300) == (1 if launcher else 2)
        return errors.read_text()
    finally:
        process.kill()
        process.wait()


def check_saved(line: str, out: Path) -> None:
    saved = (out / "last_checkpoint").read_text()
    assert "a loader worker was killed (SIGKILL)" in line and "DATALOADER.NUM_WORKERS" in line
    assert line.endswith(f"; --resume continues from {saved}")
    assert (out / saved).is_file() and saved != "model_final.pth"


LONG = ["SOLVER.MAX_ITER", 40, "SOLVER.CHECKPOINT_PERIOD", 35, "SOLVER.LOG_PERIOD", 1]


def test_a_killed_worker_loses_nothing(config, tmp_path):
    """The resumed run is the same to the bit as an uninterrupted one."""
    args, out, uninterrupted = [*config, *LONG], tmp_path / "run", tmp_path / "uninterrupted"
    check_saved(last_line(killed_under_way(args, out)), out)
    for folder in (out, uninterrupted):
        ended = run_tool("train_net", [*args, "--resume", "OUTPUT_DIR", folder])
        assert ended.returncode == 0, ended.stderr
    assert kill_and_resume.differences(uninterrupted, out) == []


def test_a_killed_worker_of_one_of_two_processes(config, tmp_path):
    check_saved(last_line(killed_under_way([*config, *LONG], tmp_path, TORCHRUN)), tmp_path)


def run_limited(args, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a training that may open 40 files."""
    (folder / "limited.py").write_text(LIMITED)
    return run_program(command("train_net", args, [str(folder / "limited.py")])[1:])


def test_too_few_open_files(config, tmp_path):
    done = run_limited([*config, "OUTPUT_DIR", tmp_path / "run"], tmp_path)
    assert done.returncode == 2
    line = last_line(done.stderr)
    assert line.startswith("error: too few open files are allowed (the limit is 40, ")
    assert "`ulimit -n 4096`" in line and "DATALOADER.NUM_WORKERS" in line


def test_without_workers_few_open_files_are_enough(config, tmp_path):
    args = [*config, "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", tmp_path / "run"]
    done = run_limited(args, tmp_path)
    assert done.returncode == 0, done.stderr


SMALL = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
MOUNT = 'mount -t tmpfs -o size=128k none /dev/shm && exec "$@"'


@pytest.fixture
def small_shared_memory():
    """Gives a command prefix that replaces /dev/shm by one of 128 KiB for one command."""
    trial = subprocess.run([*SMALL, MOUNT, "sh", "true"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip("this system does not let a user mount another /dev/shm")
    return [*SMALL, MOUNT, "sh"]


def test_too_little_shared_memory(config, tmp_path, small_shared_memory):
    args = [*config, "OUTPUT_DIR", tmp_path / "run"]
    done = subprocess.run(
        [*small_shared_memory, *command("train_net", args)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    line = last_line(done.stderr)
    assert "the shared memory of the loader workers is too small (" in line
    assert "/dev/shm has 0.1 MiB" in line and "--shm-size" in line
    assert "DATALOADER.NUM_WORKERS (0 needs none)" in line
