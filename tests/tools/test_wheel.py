"""Tests the wheel, built without kernels: its files, and a run with it from another folder."""

import json
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution

import pytest
from helpers_run import ROOT, environment

from dynamic_atss.data.shapes import make_shapes

pytestmark = pytest.mark.slow

SOURCES = "configs dynamic_atss setup.py pyproject.toml MANIFEST.in README.md LICENSE".split()
CONFIG = "configs/quickstart/shapes_R_18.yaml"
# Hides torch, so that nothing is compiled.
BUILD = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = ["setup.py", "--quiet", "bdist_wheel", "--dist-dir", "dist"]
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Builds the wheel, and unpacks it into a folder of packages as pip does."""
    folder, site = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("site")
    for name in SOURCES:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / name)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(site, cwd, *words, code="from dynamic_atss.commands import main; main()"):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**environment(), "PYTHONPATH": str(site)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def files(folder):
    """Lists all files of a folder without compiled ones and those of csrc."""
    found = (path for path in folder.rglob("*") if path.is_file())
    sources = {path.relative_to(folder) for path in found if path.suffix not in (".pyc", ".so")}
    return {str(path) for path in sources if "csrc" not in path.parts}


def test_the_wheel_has_every_module_page_and_configuration(site):
    inside = {f"configs/{name}" for name in files(ROOT / "configs")}
    assert files(site / "dynamic_atss") == files(ROOT / "dynamic_atss") | inside
    assert {path.name for path in site.iterdir() if not path.suffix} == {"dynamic_atss"}


def test_the_command_is_the_dispatcher(site):
    [info] = site.glob("*.dist-info")
    [script] = Distribution.at(info).entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("dynamic-atss", "dynamic_atss.commands:main")


@pytest.fixture(scope="module")
def trained(site, tmp_path_factory):
    """Trains in a folder with nothing but pictures; gives the folder and the stderr."""
    folder = tmp_path_factory.mktemp("empty")
    make_shapes(folder / "datasets/shapes", train=8, val=4, size=96)
    small = "MODEL.RESNETS.RES2_OUT_CHANNELS 32 MODEL.RESNETS.BACKBONE_OUT_CHANNELS 32".split()
    small += "INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 MODEL.DEVICE cpu".split()
    small += "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0".split()
    small += ["MODEL.ATSS.INFERENCE_TH", "0.0"]  # scores are low after two iterations
    done = run(site, folder, "train", "--config-file", CONFIG, *small, "OUTPUT_DIR", "run")
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_a_training_from_an_empty_folder(site, trained):
    """It uses a configuration of the package, whose path is printed."""
    folder, stderr = trained
    file = site / "dynamic_atss" / CONFIG
    assert f"{CONFIG}: not in this folder, taken from {file}\n" in stderr
    assert "AP" in (folder / "run/log.txt").read_text()
    assert (folder / "run/inference/shapes_val/coco_metrics.json").is_file()
    done = run(site, folder, "train", "--config-file", "configs/quickstart/shapes_R_81.yaml")
    assert done.returncode == 2 and done.stderr.endswith(f"the nearest is {CONFIG}\n")


def test_the_run_detects(site, trained):
    folder, _ = trained
    words = "--weights run --input datasets/shapes/val --output found --threshold 0 --no-pictures"
    done = run(site, folder, "predict", *words.split())
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found/detections.json").read_text())
    test = json.loads((folder / "run/inference/shapes_val/bbox.json").read_text())
    # The number equals that of the test in the training, and every picture has some.
    assert len(found) == len(test) > 0
    assert len({one["file_name"] for one in found}) == 4


def test_the_run_is_inspected(site, trained):
    """The page contains files of the package."""
    folder, _ = trained
    done = run(site, folder, "inspect", *"--weights run --rules atss fcos --count 1".split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("assignment.html: 1 pictures, 2 rules, 2 steps")
    page = (folder / "assignment.html").read_text()
    assert (site / "dynamic_atss/inspection/page/draw.js").read_text() in page


def test_a_file_of_the_current_folder_goes_first(site, tmp_path):
    file = tmp_path / "configs/quickstart/shapes_R_18.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("SOLVER:\n  MAX_ITERATION: 3\n")
    done = run(site, tmp_path, "test", "--config-file", file.relative_to(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: configs/quickstart/shapes_R_18.yaml: unknown key SOLVER.")
