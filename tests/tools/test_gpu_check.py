"""Tests the check of a machine with a GPU: its runner, missing packages and a dry run."""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from helpers_run import ROOT, call_tool

from dynamic_atss.errors import UserError

FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Lets the scripts import each other by plain names, as when they are started."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("on_gpu") or (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


@pytest.fixture
def runner(tmp_path):
    """Gives a function (seconds left) that makes a runner, and the list of states after stages."""
    from on_gpu import runner

    def make(left=60.0):
        begin, noted = time.monotonic(), []
        made = runner.Runner(
            tmp_path / "log.txt",
            tmp_path,
            {"PYTHONPATH": ""},
            lambda: left - (time.monotonic() - begin),
            lambda results: noted.append([r.state for r in results]),
        )
        return made, noted

    return make


def stage(name, code, limit=30.0, **options):
    from on_gpu.runner import Stage

    return Stage(name, (sys.executable, "-c", code), limit, **{"min_left": 1.0, **options})


def test_a_stage_that_fails_stops_only_those_that_need_it(runner, tmp_path):
    made, noted = runner()
    results = made.run(
        [
            stage("bad", "print('no luck'); raise SystemExit(3)"),
            stage("needs bad", "print('never')", needs=("bad",)),
            stage("absent", "print('never')", absent="no such tool here"),
            stage("good", "print('done')", summarize=lambda found, output: output.split()[-1]),
        ]
    )
    assert [r.state for r in results] == [
        "failed",
        "not run: needs bad",
        "not run: no such tool here",
        "ok",
    ]
    assert noted == [[r.state for r in results[: n + 1]] for n in range(4)]
    assert results[0].end.endswith("no luck") and results[3].summary == "done"
    log = (tmp_path / "log.txt").read_text()
    assert "no luck" in log and "never" not in log.replace("print('never')", "")
    assert [r.bad for r in results] == [True, False, False, False]


@pytest.mark.slow
def test_a_stage_that_hangs_is_killed_with_its_children(runner, tmp_path):
    """One child is in another session, as torchrun's processes are."""
    code = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "found = [subprocess.Popen(sleep, start_new_session=n).pid for n in (False, True)]\n"
        "open('pids', 'w').write(' '.join(map(str, found)))\n"
        "time.sleep(600)\n"
    )
    made, _ = runner()
    result, after = made.run([stage("hangs", code, limit=10.0), stage("good", "")])
    assert (result.state, after.state) == ("timed out", "ok") and result.bad
    assert "killed after 10 s" in (tmp_path / "log.txt").read_text()
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        status = Path(f"/proc/{pid}/status")
        assert not status.is_file() or "State:\tZ" in status.read_text()


def test_a_stage_that_needs_more_than_the_time_left_is_not_run(runner):
    made, _ = runner(left=20.0)
    results = made.run(
        [
            stage("short", ""),
            stage("long", "print('never')", min_left=25.0),
            stage("long, optional", "print('never')", min_left=25.0, optional=True),
            stage("short again", ""),
        ]
    )
    late = "not run: no time left"
    assert [r.state for r in results] == ["ok", late, late, "ok"]
    assert [r.bad for r in results] == [False, True, False, False]


def test_a_stage_gets_no_more_than_the_time_left(runner):
    made, _ = runner(left=2.0)
    (result,) = made.run([stage("hangs", "import time; time.sleep(600)", limit=500.0)])
    assert result.state == "timed out"


def test_the_result_of_a_stage_that_is_cut_off_is_kept(runner, tmp_path):
    found = tmp_path / "found.json"
    found.write_text('"of an earlier run"')
    made, _ = runner()
    code = "open('found.json', 'w').write('[1, 2]'); import time; time.sleep(600)"
    (result,) = made.run([stage("hangs", code, limit=1.5, found=found)])
    assert result.state == "timed out" and result.found in ([1, 2], None)
    (result,) = made.run([stage("leaves nothing", "", found=found)])
    assert result.state == "ok" and result.found is None


def test_files_are_written_after_each_stage(tmp_path):
    from on_gpu import summary
    from on_gpu.runner import Result

    row = {"stage": "focal", "case": "c", "peer": "p", "ours_s": 0.001, "peer_s": 0.002}
    row |= {
        "ratio": 2.0,
        "failed": False,
        "device": "cuda",
        "limit": "",
        "limit_s": None,
        "ours_mb": 3.0,
    }
    row |= {"peer_mb": None, "same": "", "note": "", "numbers": {"share_of_copy": 0.75}}
    results = [
        Result("environment", "ok", 1.0, "one GPU", found={"summary": "a | GPU", "machine": {}}),
        Result("focal", "ok", 2.0, summary.of_rows([row], ""), found=[row]),
        Result("nms", "failed", 3.0, end="Traceback"),
    ]
    for count in range(len(results) + 1):
        line = summary.closing(results[:count], 3, 6.0, 540.0)
        summary.write(tmp_path, results[:count], "python x", line)
        content = json.loads((tmp_path / "gpu.json").read_text())
        assert [s["name"] for s in content["stages"]] == [r.name for r in results[:count]]
    text = (tmp_path / "gpu.md").read_text()
    assert line == "2 of 3 stages ok, 1 failed; 6 of 540 s; look at: nms" and line in text
    assert text.startswith("# GPU check\n")
    assert "| focal | ok | 2 | focal: c: 1 ms, 2.00 x as fast as p, peak 3.00 MB |" in text
    assert "## nms: failed" in text and "Traceback" in text
    assert text.index("at least 70% | 75% | met |") < text.index("| stage | state |")
    assert "GPU: faster" in (tmp_path / "benchmarks.md").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_rows_that_failed_come_first_in_the_summary():
    from common import Row, failed_row
    from on_gpu import summary

    rows = [Row("s", f"case {n}", 0.001).to_dict() for n in range(9)]
    rows += [Row("s", "counts", note="1 copy").to_dict()]
    rows += [failed_row("s", "bad", ValueError("no luck"), "cpu")]
    assert summary.of_rows(rows, "").startswith(
        "s: bad: failed: ValueError: no luck; s: case 0: 1 ms"
    )
    assert summary.of_rows(rows, "").endswith("; s: case 4: 1 ms; and 5 more in benchmarks.md")
    assert summary.of_rows(rows[-2:-1], "") == "s: counts: 1 copy"


def test_summaries_of_other_programs():
    from on_gpu import summary

    output = "..s\nSKIPPED [3] x.py:1: why\n2 passed, 1 skipped in 3.21s\n"
    assert summary.of_pytest(None, output) == "2 passed, 1 skipped in 3.21s; skipped: 3: why"
    output += "========= ERROR SUMMARY: 0 errors\n"
    assert summary.of_sanitizer(None, output) == (
        "ERROR SUMMARY: 0 errors; 2 passed, 1 skipped in 3.21s; skipped: 3: why"
    )


def test_missing_packages_are_named_in_one_line(monkeypatch):
    from on_gpu import packages

    monkeypatch.setattr(packages, "NEEDED", {"no_yacs": "yacs9", "json": "json", "no_cv": "cv9"})
    monkeypatch.setattr(packages, "OF_THE_MACHINE", ())
    with pytest.raises(UserError) as caught:
        packages.check(os.environ, "cuda")
    message = str(caught.value)
    names = message.replace("cv9", "no_cv").replace("yacs9", "no_yacs")
    assert "packages are missing: no_cv, no_yacs" in names
    assert "pip download" in message and "make gpu WHEELS=wheels" in message
    assert "\n" not in message
    monkeypatch.setattr(packages, "NEEDED", {"no_torch": "torch"})
    monkeypatch.setattr(packages, "OF_THE_MACHINE", ("torch",))
    with pytest.raises(UserError, match=r"has no torch: name a Python .*PYTHON="):
        packages.check(os.environ, "cuda")


def test_setuptools_that_cannot_read_our_metadata_is_missing(monkeypatch, tmp_path):
    from on_gpu import packages

    monkeypatch.setattr(packages, "NEEDED", {"setuptools": "setuptools", "torch": "torch"})
    # A fake torch, as importing the real one takes seconds.
    fake = "__version__ = '2.14.1'\nclass cuda: device_count = int\n"
    (tmp_path / "torch.py").write_text(fake)
    module = tmp_path / "setuptools.py"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    for version in ("76.1.0", "9.9", "unknown"):
        module.write_text(f"__version__ = '{version}'")
        with pytest.raises(UserError, match="packages are missing: setuptools>=77; on a") as error:
            packages.check(environment, "cpu")
        assert "-d wheels 'setuptools>=77'" in str(error.value)
    for version in ("77", "100.0.1"):
        module.write_text(f"__version__ = '{version}'")
        assert packages.check(environment, "cpu") == 0


def test_the_download_is_for_this_machine(monkeypatch):
    from on_gpu import packages

    monkeypatch.setattr(packages.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    text = packages.how_to_download(["yacs"])
    assert "manylinux_2_28_aarch64" in text and "x86" not in text
    assert "-d wheels yacs ninja; then" in text
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "-d wheels yacs; then" in packages.how_to_download(["yacs"])
    assert "ninja" not in packages.NEEDED.values()


def test_an_old_pytorch_and_no_gpu_are_named():
    from on_gpu import packages

    with pytest.raises(UserError, match=r"PyTorch 2.9.1 is too old"):
        packages._check_torch("2.9.1", 1, "cuda")
    with pytest.raises(UserError, match=r"no GPU here.*--device cpu"):
        packages._check_torch("2.10.0+cu130", 0, "cuda")
    packages._check_torch("2.10.0a0", 1, "cuda")
    packages._check_torch("2.14.1+cu130", 0, "cpu")


def wheel(folder, name, text, version="1.0"):
    """Writes a package with one module."""
    info, metadata = f"{name}-{version}.dist-info", f"Name: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", text)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\n{metadata}")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_wheels_go_to_a_folder_and_replace_nothing(tmp_path):
    pytest.importorskip("pip")
    from on_gpu import packages

    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    with pytest.raises(UserError, match=r"no \*.whl in it"):
        packages.install_wheels(wheels, site)
    wheel(wheels, "a_package_of_this_test", "value = 3")
    wheel(wheels, "torch", "raise RuntimeError('not the torch of the machine')")
    assert packages.install_wheels(wheels, site) == ["a-package-of-this-test"]
    assert (site / "a_package_of_this_test.py").read_text() == "value = 3"
    assert not list(site.glob("torch*"))
    (wheels / "broken_package-1.0-py3-none-any.whl").write_text("no archive")
    with pytest.raises(UserError, match=r"--wheels .*wheels: "):
        packages.install_wheels(wheels, site)


@pytest.mark.parametrize("installed, added", [("70.1", ["setuptools"]), ("77.0.3", [])])
def test_a_newer_setuptools_is_added_to_an_old_one(tmp_path, monkeypatch, installed, added):
    """Python imports the first one on its path."""
    pytest.importorskip("pip")
    from on_gpu import packages

    wheels, old, site = (tmp_path / name for name in ("wheels", "old", "site"))
    wheels.mkdir()
    wheel(wheels, "setuptools", "__version__ = '999.0'", "999.0")
    info = old / f"setuptools-{installed}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: setuptools\nVersion: {installed}\n")
    monkeypatch.syspath_prepend(str(old))
    assert packages.install_wheels(wheels, site) == added
    assert (site / "setuptools.py").is_file() == bool(added)


def test_files_are_compiled_at_the_same_time(monkeypatch):
    """Their number depends on the cores of this process and on the memory."""
    from on_gpu import build_kernels

    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10**8}
    monkeypatch.setattr(os, "sysconf", pages.get)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    assert build_kernels.jobs() == 6
    pages["SC_PHYS_PAGES"] = 2 * 10**6
    assert build_kernels.jobs() == 2
    pages["SC_PHYS_PAGES"] = 10**5
    assert build_kernels.jobs() == 1


def test_the_sanitizer_is_found_in_the_toolkit(tmp_path, monkeypatch):
    from on_gpu import table

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    place = tmp_path / "compute-sanitizer/compute-sanitizer"
    place.parent.mkdir()
    place.touch()
    assert table.find_sanitizer() == place


def test_the_stages_of_a_gpu(tmp_path):
    """All commands name existing files, and the limits leave time for the important stages."""
    from on_gpu import table

    place = table.Place("cuda", tmp_path, tmp_path / "kernels", tmp_path / "sanitizer", 1)
    stages = {stage.name: stage for stage in table.stages(place)}
    assert list(stages) == list(table.NAMES)
    for stage in stages.values():
        modules = [a for a in stage.command if a.startswith("on_gpu.")]
        assert all((FOLDER / f"{name.replace('.', '/')}.py").is_file() for name in modules)
        files = [a.split("::")[0] for a in stage.command if a.startswith(("tests/", str(ROOT)))]
        assert all((ROOT / name).exists() for name in files)
    first = table.NAMES[: table.NAMES.index("train-bfloat16")]
    assert sum(stages[name].limit for name in first) < 600
    assert "kns=dynamic_atss" in stages["memcheck"].command
    assert sum(stages[name].limit for name in table.speed.NAMES[:6]) < 600
    chosen = [stage.name for stage in table.stages(place, ("nms", "build"))]
    assert chosen == ["environment", "build", "nms"]


def test_groups_of_stages(tmp_path):
    """Stages of speed take what time is left, unless they are asked for."""
    from on_gpu import table

    place = table.Place("cuda", tmp_path, tmp_path, tmp_path, 1)
    groups = {name: table.stages(place, (name,)) for name in table.GROUPS}
    checks, speed, float32 = ({stage.name for stage in groups[name]} for name in table.GROUPS)
    assert tuple(table.GROUPS) == ("checks", "speed", "float32")
    assert checks | speed | float32 == {*table.NAMES}
    assert checks & speed == checks & float32 == speed & float32 == {"environment", "build"}
    assert float32 - checks == {*table.speed.FLOAT32} and "scoring" in speed
    assert not any(stage.optional for name in ("speed", "float32") for stage in groups[name])
    both = {stage.name: stage.optional for stage in table.stages(place, ("checks", "nms"))}
    assert set(both) == {*checks, "nms"} and not both["nms"]
    every = {stage.name: stage.optional for stage in table.stages(place)}
    assert every["ladder"] and every["detectors-float32"] and not every["train-float32"]


def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    for arguments, message in (
        (["--stages", "nothing"], "'nothing'"),
        (["--device", "cpu", "--minutes", "0"], "--minutes 0"),
        (["--device", "cpu", "--output", tmp_path / "file"], "cannot be written"),
    ):
        assert call_tool(monkeypatch, "gpu_check", arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_machine_without_a_gpu_is_one_line(monkeypatch, capsys, tmp_path):
    from on_gpu import packages

    monkeypatch.setattr(packages, "NEEDED", {"torch": "torch"})  # the others take seconds
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert call_tool(monkeypatch, "gpu_check", ["--output", tmp_path / "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "finds no GPU here" in error and "--device cpu" in error


@pytest.mark.slow
def test_the_project_need_not_be_installed(tmp_path):
    """Nor need any package be: the check of packages imports only modules of Python."""
    command = [sys.executable, "-S", "-E", ROOT / "tools/gpu_check.py", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


def line(iteration, loss):
    return {"iteration": iteration, "loss": loss, "time": 0.1, "max_mem_mb": 5}


@pytest.mark.parametrize(
    "losses, wrong",
    [
        ([2.0, 1.9, 1.5], []),
        ([2.0, 2.1, 2.2], ["the loss does not fall: 2 at first, 2.2 at last"]),
        ([2.0, None, 1.0], ["a loss is not finite"]),
        ([2.0, 1.0], ["2 iterations are in metrics.jsonl, not 3 one after the other"]),
        ([2.2, 2.0, 1.0], ["the first loss is 2.2, on the CPU 2"]),
    ],
)
def test_the_faults_of_a_training_are_named(tmp_path, losses, wrong):
    from on_gpu import short_training

    (tmp_path / "first_loss.json").write_text("2.0")
    args = argparse.Namespace(folder=tmp_path, processes=None, dtype="float32", device="cpu")
    lines = [line(n + 1, loss) for n, loss in enumerate(losses)]
    assert short_training.faults(lines, args, 3) == wrong


def test_runs_may_drift_apart_but_not_learn_otherwise():
    from on_gpu import compare_runs

    lines = [line(n + 1, 2.0 - 0.02 * n) for n in range(50)]

    def beside(factor, sign):
        changes = [compare_runs.tolerance("float32", n + 1) * sign**n * factor for n in range(50)]
        pairs = zip(lines, changes, strict=True)
        others = [{**x, "loss": x["loss"] * (1 + by)} for x, by in pairs]
        return compare_runs.apart(lines, others, "float32")

    assert beside(0.0, -1) == beside(0.9, -1) == []
    (wrong,) = beside(1.2, -1)
    assert "the loss of iteration 1 is 2" in wrong
    (wrong,) = beside(0.9, 1)
    assert "the losses of the last third are" in wrong
    assert compare_runs.apart(lines, lines[:-1], "float32") == ["50 iterations beside 49"]


@pytest.mark.parametrize("changed, exact", [(0.0, True), (1e-3, False)])
def test_the_largest_difference_of_two_runs(tmp_path, changed, exact):
    from on_gpu import compare_runs

    from dynamic_atss.engine.checkpoint import save_checkpoint

    for name, by in (("a", 0.0), ("b", changed)):
        lines = [line(n, 2.0 + by * (n > 1)) for n in (1, 2, 3)]
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(x) + "\n" for x in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text)
        weights = {"x": torch.ones(4) * (1 + by), "count": torch.tensor(3)}
        save_checkpoint(tmp_path / name / "model_final.pth", {"model": weights, "iteration": 3})
    loss, weight = compare_runs.largest_difference(tmp_path / "a", tmp_path / "b", 1)
    assert (loss == weight == 0) == exact
    assert loss == pytest.approx(changed / 2, rel=1e-2)
    assert weight == pytest.approx(changed, rel=1e-2)


def test_operations_without_a_deterministic_form_are_named():
    from on_gpu import short_training

    said = "{} does not have a deterministic implementation, but you set x"
    with short_training.deterministic(True) as names:
        assert torch.are_deterministic_algorithms_enabled()
        for name in ("pool_backward_cuda", "index_sum_cuda", "pool_backward_cuda"):
            warnings.warn(said.format(name), stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert names == {"pool_backward_cuda", "index_sum_cuda"}
    assert not torch.are_deterministic_algorithms_enabled()
    with short_training.deterministic(False) as names:
        assert not torch.are_deterministic_algorithms_enabled()
    assert not names


def test_collectives_of_one_process(monkeypatch, tmp_path):
    """Two processes under torchrun take three times as long; `make gpu` runs them."""
    from on_gpu import collectives

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**variables, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    found = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--json", str(found)])
    collectives.main()
    assert "gloo, 1 process" in json.loads(found.read_text())["summary"]


DRY = ("environment", "build", "test-operators", "train-float32", "memcheck", "nms")


@pytest.mark.slow
def test_a_dry_run(tmp_path):
    """It runs on a CPU with the smallest sizes. The other stages differ only in their options."""
    command = [sys.executable, ROOT / "tools/gpu_check.py", "--device", "cpu"]
    command += ["--output", tmp_path, "--stages", *DRY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text())
    stages = {stage["name"]: stage for stage in content["stages"]}
    assert tuple(stages) == DRY
    states = {name: stage["state"] for name, stage in stages.items()}
    assert states.pop("memcheck") == "not run: no compute-sanitizer here"
    assert states.pop("test-operators") in ("nothing ran", "ok")  # ok where there is a GPU
    assert set(states.values()) == {"ok"}
    assert content["dry_run"] and content["goals"][0]["measured"] is None
    assert content["machine"]["machine"]["torch"]
    assert "skipped" in stages["test-operators"]["summary"]
    training = stages["train-float32"]["found"]
    assert training["last_loss"] < training["first_loss"] == training["first_loss_on_cpu"]
    assert training["iterations"] == 8 and training["max_mem_mb"] > 0
    assert "resumed after 4: equal bits" in training["summary"]
    assert all(row["ours_s"] > 0 for row in stages["nms"]["found"])
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("# Dry run on a CPU with toy sizes: no number counts\n")
    assert content["closing"] in text and "1 not run" in content["closing"]
    assert "| memcheck | not run | 0 | no compute-sanitizer here |" in text
    assert (tmp_path / "benchmarks.md").read_text().startswith("# Dry run")
    assert "===== nms" in (tmp_path / "log.txt").read_text()


def test_every_test_that_needs_a_gpu_is_in_a_stage():
    from on_gpu import table

    files = [p for p in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in p.read_text()]
    assert len(files) > 5
    folders = [ROOT / name for name in (table.OPERATORS, *table.TESTED)]
    left_out = [p for p in files if not any(folder in p.parents for folder in folders)]
    assert left_out == [Path(__file__).resolve()]
