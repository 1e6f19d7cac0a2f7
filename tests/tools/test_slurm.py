"""Tests tools/launch/slurm.sbatch with scripts that replace the programs of Slurm."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers_run import ROOT, environment, read_lines, write_config

pytestmark = pytest.mark.slow

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi
"""
JOB = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1"}


@pytest.fixture
def job(tmp_path):
    """Gives a function that starts the script with arguments of tools/train_net.py."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "PYTHON": sys.executable,
    }
    config = write_config(tmp_path)

    def start(*args: object) -> subprocess.Popen:
        script = str(ROOT / "tools/launch/slurm.sbatch")
        return subprocess.Popen(
            ["bash", script, *config, "--skip-test", *map(str, args)],
            env={**environment(), **JOB, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


def test_the_job_is_queued_again_before_its_time_is_over_and_continues(job, tmp_path):
    out = tmp_path / "run"
    args = ["OUTPUT_DIR", out, "SOLVER.LOG_PERIOD", 1]
    process = job(*args, "SOLVER.MAX_ITER", 5000)
    try:
        end = time.monotonic() + 300
        while not (out / "metrics.jsonl").is_file() or len(read_lines(out)) < 3:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=300) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert (tmp_path / "requeued").read_text() == "requeue 4242\n"
    saved = read_lines(out)[-1]["iteration"]
    again = job(*args, "SOLVER.MAX_ITER", saved + 2)
    assert again.wait(timeout=300) == 0
    assert [x["iteration"] for x in read_lines(out)] == list(range(1, saved + 3))
    assert (tmp_path / "requeued").read_text() == "requeue 4242\n"


def test_after_a_mistake_the_job_ends(job, tmp_path):
    assert job("NO.KEY", 1, "OUTPUT_DIR", tmp_path / "run").wait(timeout=300) == 2
    assert not (tmp_path / "requeued").exists()
