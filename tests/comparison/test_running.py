"""Tests the processes of a comparison. tests/comparison/child.py stands for a training."""

import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dynamic_atss.comparison import running
from dynamic_atss.comparison.devices import Device, devices
from dynamic_atss.comparison.plan import Job
from dynamic_atss.comparison.rules import parsed
from dynamic_atss.comparison.running import Failure, Runner
from dynamic_atss.config.defaults import default_config
from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.errors import UserError

CPU = Device("cpu", "cpu", {})
TESTS = ["boxes"]


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    child = str(Path(__file__).with_name("child.py"))
    monkeypatch.setattr(running, "TRAIN", (sys.executable, child))

    def make(*rules, seeds=(0,)):
        return [job(tmp_path, rule, seed) for seed in seeds for rule in parsed(rules)]

    return make


def job(folder, rule, seed) -> Job:
    cfg = default_config()
    cfg.MODEL.ASSIGNER.NAME, cfg.SEED, cfg.SOLVER.MAX_ITER = rule.name, seed, 10
    cfg.OUTPUT_DIR = str(folder / rule.folder / f"seed_{seed}")
    return Job(rule, seed, cfg)


def done(job: Job) -> dict:
    return json.loads((job.folder / "done.json").read_text())


def test_one_process_on_each_device_at_a_time(jobs, monkeypatch, capsys):
    monkeypatch.setenv("DELAY", "0.5")
    given = [Device("cuda:0", "cuda", {"CUDA_VISIBLE_DEVICES": "4"}), CPU]
    made = jobs("atss", "fcos", seeds=(0, 1))
    assert Runner(made, given, TESTS).run() == []
    found = [done(job) for job in made]
    for job, record in zip(made, found, strict=True):
        settings = str(job.folder / "settings.yaml")
        assert record["arguments"] == ["--config-file", settings, "--allow-code", "--resume"]
        assert (job.folder / "output.txt").read_text() == "a line of the log\n"
    on_gpu = [x for x in found if x["device"] == "cuda"]
    assert all(x["CUDA_VISIBLE_DEVICES"] == "4" for x in on_gpu)
    assert {x["device"] for x in found[:2]} == {"cuda", "cpu"}
    for kind in ("cuda", "cpu"):
        times = sorted((x["begin"], x["end"]) for x in found if x["device"] == kind)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))
    first, second = found[:2]
    assert max(first["begin"], second["begin"]) < min(first["end"], second["end"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "4 of 4 runs are complete" in lines[-1]
    assert ", about 0:00:0" in lines[1]


def test_what_is_complete_is_not_run_again(jobs, capsys):
    first, second = jobs("atss", "fcos")
    Runner([first], [CPU], TESTS).run()
    before = done(first)
    Runner([first, second], [CPU], TESTS).run()
    assert done(first) == before and done(second)["begin"] > before["end"]
    assert "1 of 2 runs are already complete\nfcos, seed 0: done" in capsys.readouterr().out


def test_a_run_that_fails_is_reported_and_the_others_go_on(jobs, capsys):
    bad, good = jobs("topk", "atss")
    output = bad.folder / "output.txt"
    output.parent.mkdir(parents=True)
    output.write_text("error: of another start\n")
    reason = f"no luck (exit code 2, {output})"
    assert Runner([bad, good], [CPU], TESTS).run() == [Failure(bad, reason)]
    assert good.complete(TESTS) and not bad.complete(TESTS)
    assert f"topk, seed 0: failed: {reason}, after 0:00:0" in capsys.readouterr().out


def test_a_run_without_scores_is_reported(jobs):
    [(_, reason)] = Runner(jobs("paa"), [CPU], TESTS).run()
    assert reason.startswith("it has no scores")


def test_a_run_that_a_signal_ends_is_reported(jobs, monkeypatch):
    monkeypatch.setenv("DELAY", "30")
    (job,) = jobs("atss")
    runner = Runner([job], [CPU], TESTS)
    thread = threading.Thread(target=end_child, args=(job,))
    thread.start()
    found = runner.run()
    thread.join()
    (failure,) = found
    assert "signal" in failure.reason and "143" in failure.reason and "resumes" in failure.reason


def end_child(job: Job) -> None:
    os.kill(wait_for(lambda: pid(job)), signal.SIGTERM)


def wait_for(condition):
    end = time.monotonic() + 30
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def pid(job: Job) -> int:
    """Gives the process id of a running job, 0 before it starts."""
    path = job.folder / "pid"
    return int(path.read_text() or 0) if path.is_file() else 0


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_signal_lets_all_save_and_ends_the_comparison(jobs, monkeypatch):
    monkeypatch.setenv("DELAY", "30")
    made = jobs("atss", "fcos", "simota")

    def interrupt():
        wait_for(lambda: all(map(pid, made[:2])))
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with on_signals(stop_now), pytest.raises(Stopped):
        thread.start()
        Runner(made, [CPU, CPU], TESTS).run()
    thread.join()
    assert [(job.folder / "signal").read_text() for job in made[:2]] == ["SIGTERM"] * 2
    assert not any(alive(pid(job)) for job in made[:2]) and not made[2].folder.exists()


def test_devices(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices(["cpu"]) == [CPU]
    assert devices(["cpu", "cpu"])[1].environment == {"OMP_NUM_THREADS": "4"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert devices(["cpu", "cpu"])[1].environment == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    found = devices(["cuda:1", "cuda", "auto"])
    assert [x.environment.get("CUDA_VISIBLE_DEVICES") for x in found] == ["3", "5", None]
    assert [x.kind for x in found] == ["cuda", "cuda", "auto"]


@pytest.mark.parametrize(
    "name, count, message",
    [
        ("cuda:2", 2, "--devices cuda:2: torch sees 2 GPUs"),
        ("cuda", 0, "--devices cuda: torch sees no GPU"),
        ("gpu", 1, "--devices 'gpu': give cpu, cuda:0"),
    ],
)
def test_devices_that_do_not_exist(monkeypatch, name, count, message):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with pytest.raises(UserError, match=message):
        devices([name])
