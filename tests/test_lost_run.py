"""Tests two processes of a machine when one of them, or their launcher, stops or is killed."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from helpers_fork import Program
from helpers_run import (
    LAUNCH,
    TORCHRUN,
    command,
    load_module,
    read_lines,
    run_program,
    run_tool,
    start_tool,
    write_config,
)

pytestmark = pytest.mark.slow

ENDLESS = 300.0  # seconds after which a test gives up waiting

kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    settings = ["SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.TIMEOUT", 8]
    config = write_config(tmp_path_factory.mktemp("tiny"))
    return [*config, *settings, "DATALOADER.NUM_WORKERS", 1, "--skip-test"]


def until(reached, process: Program | None = None) -> None:
    end = time.monotonic() + ENDLESS
    while not reached():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)


@contextlib.contextmanager
def training(
    args: Sequence[object], out: Path, launcher: Sequence[str] = LAUNCH
) -> Iterator[Program]:
    """Starts a training and waits for four iterations; its stderr goes to <out>.err."""
    with open(f"{out}.err", "w") as err, open(f"{out}.out", "w") as log:
        process = start_tool(
            "train_net", [*args, "OUTPUT_DIR", out], launcher, stdout=log, stderr=err
        )
    metrics = out / "metrics.jsonl"
    try:
        until(lambda: metrics.is_file() and len(read_lines(out)) >= 4, process)
        yield process
    finally:
        for pid in [process.pid, *below(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(x) for x in text.split()]
    return []


def below(pid: int) -> list[int]:
    return [x for child in children(pid) for x in (child, *below(child))]


def process_of(rank: int, launcher: int) -> int:
    """Gives the process of a rank: the launcher starts its processes in the order of ranks."""
    return children(launcher)[rank]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def errors(out: Path) -> list[str]:
    lines = Path(f"{out}.err").read_text().splitlines()
    return [x for x in lines if x.startswith("error: ")]


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stopped_or_killed_process_is_named_by_the_other_which_ends(args, tmp_path, how):
    out = tmp_path / "run"
    with training([*args, "SOLVER.MAX_ITER", 5000], out) as process:
        os.kill(process_of(1, process.pid), how)
        assert process.wait(timeout=ENDLESS) == 75
    (line,) = errors(out)
    assert "iteration " in line and "rank 1 (" in line and "rank 0" not in line
    assert "; --resume continues from model_" in line
    saved = next(word for word in line.split() if word.endswith(".pth"))
    assert (out / "last_checkpoint").read_text() == saved
    assert "Traceback" not in Path(f"{out}.err").read_text()


def test_torchrun_restarts_and_the_run_continues_bit_by_bit(args, tmp_path):
    """tests/test_two_machines.py does the same with tools/launch.py."""
    out, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    args = [*args, "SOLVER.MAX_ITER", 14]
    with training(args, out, [*TORCHRUN, "--max-restarts", "2"]) as process:
        os.kill(process_of(1, process.pid), signal.SIGKILL)
        assert process.wait(timeout=ENDLESS) == 0
    assert "restarted by the launcher" in (out / "log.txt").read_text()
    ended = run_tool("train_net", [*args, "OUTPUT_DIR", uninterrupted], TORCHRUN)
    assert ended.returncode == 0, ended.stderr
    torch.set_num_threads(1)
    assert kill_and_resume.differences(uninterrupted, out) == []


def test_no_process_is_left_when_the_launcher_is_killed(args, tmp_path):
    out = tmp_path / "run"
    with training([*args, "SOLVER.MAX_ITER", 5000], out) as process:
        started = below(process.pid)
        assert len(started) == 4  # two processes with a loader worker each
        process.kill()
        until(lambda: not any(map(runs, started)))
    saved = torch.load(out / (out / "last_checkpoint").read_text(), weights_only=True)
    assert saved["iteration"] == read_lines(out)[-1]["iteration"]


def test_a_process_that_never_joins_is_named(args, tmp_path):
    """The test starts only one of two processes, without a launcher."""
    alone = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29641"}
    out = ["SOLVER.TIMEOUT", 2, "OUTPUT_DIR", tmp_path / "run"]
    ended = run_program(command("train_net", [*args, *out])[1:], ENDLESS, **alone)
    assert ended.returncode == 75
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: rank 1 of 2 ") and "127.0.0.1:29641" in line
    assert "2 s (SOLVER.TIMEOUT)" in line


def test_no_restart_follows_a_mistake(args, tmp_path):
    launcher = [*LAUNCH, "--max-restarts", "3"]
    ended = run_tool("train_net", [*args, "NO.KEY", 1, "OUTPUT_DIR", tmp_path], launcher)
    assert ended.returncode == 2 and ended.stderr.count("NO.KEY") == 1


def test_torchrun_restarts_after_a_mistake_which_is_reported_once(args, tmp_path):
    launcher = [*TORCHRUN, "--max-restarts", "1"]
    ended = run_tool("train_net", [*args, "NO.KEY", 1, "OUTPUT_DIR", tmp_path], launcher)
    assert ended.returncode == 1 and ended.stderr.count("error: command line: unknown key") == 1


def test_another_number_of_processes_continues_and_logs_what_differs(args, tmp_path):
    out = ["OUTPUT_DIR", tmp_path / "run"]
    first = run_tool("train_net", [*args, *out, "SOLVER.MAX_ITER", 3], LAUNCH)
    assert first.returncode == 0, first.stderr
    ended = run_tool("train_net", [*args, *out, "SOLVER.MAX_ITER", 6, "--resume"])
    assert ended.returncode == 0, ended.stderr
    assert [line["iteration"] for line in read_lines(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert "resumed with 1 process(es) instead of 2" in (tmp_path / "run/log.txt").read_text()
