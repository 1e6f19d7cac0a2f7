"""Tests `dynamic-atss export` on a run, and its file in a process without the package."""

import ast
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers_run import ROOT, call_tool, environment, write_config

from dynamic_atss import load
from dynamic_atss.data.image import resize
from dynamic_atss.export import formats

KEYS = ["MODEL.ATSS.INFERENCE_TH", 0.001, "MODEL.BACKBONE.ARGS.width", 8]
BODY = ["MODEL.BACKBONE.CONV_BODY", f"{ROOT}/examples/plain_body.py:PlainBody"]
SIZES = ["INPUT.MIN_SIZE_TEST", 160, "INPUT.MAX_SIZE_TEST", 224]

LOADING = """
import json, sys, torch
sys.modules["dynamic_atss"] = None
files = {"metadata.json": ""}
program = torch.export.load(sys.argv[1], extra_files=files)
about = json.loads(files["metadata.json"])
assert about["min_size"] == "160" and about["imports"] == '["torch"]'
given = torch.load(sys.argv[2])
torch.save(program.module()(*given), sys.argv[3])
assert not any(name.startswith("dynamic_atss.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    args = [*write_config(folder), *BODY, *KEYS, *SIZES, "OUTPUT_DIR", folder / "run"]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", [*args, "--skip-test"]) == 0
    return folder


def export(tiny, name, output, *more):
    """Runs the command and gives its exit code."""
    given = ["--weights", tiny / "run", "--format", name, "--output", output, "--allow-code", *more]
    with pytest.MonkeyPatch.context() as patch:
        return call_tool(patch, "export", given)


@pytest.mark.slow
def test_an_onnx_file_and_the_example(tiny, tmp_path, capsys):
    for package in formats.PACKAGES["onnx"]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install it")
    output = tmp_path / "new folder" / "x.onnx"
    assert export(tiny, "onnx", output) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert "6 classes; agrees with PyTorch on 8 pictures of shapes_val" in line
    assert [path.name for path in output.parent.iterdir()] == ["x.onnx"]
    model = load(tiny / "run", allow_code=True)
    picture = sorted((tiny / "datasets/shapes/val").glob("*.jpg"))[3]
    # At this scale some resized pixels differ by a grey level; at those below none does.
    compare_with_example(model, output, picture, atol=5e-4)
    pixels = cv2.imread(str(picture))
    for side, scale in ((80, "twice"), (320, "half")):
        path = str(tmp_path / f"{scale}.png")
        cv2.imwrite(path, cv2.resize(pixels, (side, side)))
        compare_with_example(model, output, path, atol=1.5e-4)  # 4 decimals are printed


@pytest.mark.parametrize("size", [(48, 64), (12, 16), (96, 128), (48, 16)])
def test_the_example_resizes_as_the_test(size):
    """Weights at scales of 2, 1/2 and 4 are exact in binary, and many results are ties."""
    tree = ast.parse((ROOT / "examples/onnx_detect.py").read_text())
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    space = {"np": np}
    exec(compile(ast.Module([function], []), "onnx_detect.py", "exec"), space)
    image = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8)
    columns = space["resized"](image.permute(1, 2, 0).numpy(), 1, size[1])
    found = space["resized"](columns, 0, size[0]).transpose(2, 0, 1)
    assert np.array_equal(found, resize(image, *size))


def compare_with_example(model, file, picture, atol):
    """Compares the scores that the example prints with those of the model."""
    found = model(picture, threshold=0)
    command = [sys.executable, ROOT / "examples/onnx_detect.py", file, picture]
    printed = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert printed.returncode == 0, printed.stderr
    rows = [line.split(" ", 2) for line in printed.stdout.splitlines()]
    assert len(rows) == len(found) > 10
    scores = torch.tensor([float(row[1]) for row in rows])
    torch.testing.assert_close(scores, found.scores, atol=atol, rtol=0)


@pytest.mark.slow
def test_a_file_of_torch_needs_torch_alone(tiny, tmp_path):
    from dynamic_atss.export import checking
    from dynamic_atss.export.module import TensorDetector
    from dynamic_atss.inference.picture import read
    from dynamic_atss.inference.restore import restore

    output = tmp_path / "x.pt2"
    assert export(tiny, "torch", output, "--check-images", tiny / "datasets/shapes/val") == 0
    model = restore(tiny / "run", allow_code=True)
    pictures = sorted((tiny / "datasets/shapes/val").glob("*.jpg"))[:3]
    images = [read(path, model.reading).image for path in pictures]
    given = checking.inputs_of(checking.batch_of(model, images))
    torch.save(given, tmp_path / "given.pt")
    files = [output, tmp_path / "given.pt", tmp_path / "found.pt"]
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *files], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    for got, wanted in zip(
        torch.load(files[2]), TensorDetector(model.detector)(*given), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)
        assert got.shape[0] == 3 and got.any()


def test_mistakes_are_one_line(tiny, tmp_path, capsys, monkeypatch):
    output = tmp_path / "x.onnx"
    aug = ["--set", "TEST.BBOX_AUG.ENABLED", "True"]
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert export(tiny, "onnx", output) == 2
    assert "onnxruntime: pip install 'dynamic_atss[export]'" in capsys.readouterr().err
    for more, message in (
        (aug, "TEST.BBOX_AUG.ENABLED True: test-time augmentation cannot be exported"),
        (["--check-images", tmp_path / "none"], "none: no such picture, folder or video"),
        (["--output", tmp_path], "is a folder; name a file in it"),
        (["--weights", tmp_path / "none"], "no such weights"),
        (["--format", "tflite"], "invalid choice: 'tflite'"),
    ):
        assert export(tiny, "torch", output, *more) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())
