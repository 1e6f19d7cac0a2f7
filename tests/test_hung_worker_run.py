"""Tests that a stopped loader worker ends the run, and does not delay the end by a signal."""

import os
import signal
from pathlib import Path

import pytest
import torch
from helpers_run import LAUNCH, write_config
from test_lost_run import ENDLESS, children, errors, process_of, training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    settings = ["SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 5000, "SOLVER.MAX_ITER", 5000]
    config = write_config(tmp_path_factory.mktemp("tiny"))
    return [*config, *settings, "DATALOADER.NUM_WORKERS", 1, "--skip-test"]


def saved(out: Path) -> tuple[str, int]:
    name = (out / "last_checkpoint").read_text()
    return name, torch.load(out / name, weights_only=True)["iteration"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_worker_ends_the_run_after_a_checkpoint(args, tmp_path, processes):
    out = tmp_path / "run"
    launcher = LAUNCH if processes == 2 else ()
    with training([*args, "SOLVER.TIMEOUT", 10], out, launcher) as process:
        trainer = process_of(1, process.pid) if processes == 2 else process.pid
        (worker,) = children(trainer)
        os.kill(worker, signal.SIGSTOP)
        assert process.wait(timeout=ENDLESS) == 75
    (line,) = errors(out)
    name, iteration = saved(out)
    assert f"loader worker 0 (process {worker} on " in line and ", stopped)" in line
    assert line.startswith(f"error: iteration {iteration + 1}: ")
    assert line.endswith(f"; --resume continues from {name}") and iteration >= 4
    assert "rank 0" not in line


def test_a_signal_while_waiting_for_a_stopped_worker_saves_and_ends(args, tmp_path):
    out = tmp_path / "run"
    with training(args, out, ()) as process:
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=ENDLESS) == 128 + signal.SIGTERM
    name, iteration = saved(out)
    assert name == f"model_{iteration:07d}.pth" and iteration >= 4
    assert f"SIGTERM: iteration {iteration} is saved in" in (out / "log.txt").read_text()
