"""Tests `dynamic-atss predict`: the files that it writes, and the mistakes that it refuses."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers_run import ROOT, call_tool, environment, run_tool, write_config
from helpers_video import break_frame, write_video

SETTINGS = ["MODEL.ATSS.INFERENCE_TH", 0.001, "SOLVER.MAX_ITER", 2, "--skip-test"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    args = [*write_config(folder), *SETTINGS, "OUTPUT_DIR", folder / "run"]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", args) == 0
    return folder


@pytest.fixture(scope="module")
def run(trained):
    return trained / "run"


@pytest.fixture
def folder(trained, tmp_path):
    """Makes a folder with four pictures."""
    files = sorted((trained / "datasets/shapes/val").glob("*.jpg"))[:4]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for file in files:
        shutil.copy(file, pictures)
    return pictures


@pytest.fixture
def predict(run, monkeypatch, tmp_path, capfd):
    """Gives a function that calls the command, and returns its exit code, stdout and stderr."""

    def call(*args, weights=run, threshold=0):
        monkeypatch.chdir(tmp_path)
        given = ["--weights", weights, "--threshold", threshold, *args]
        code = call_tool(monkeypatch, "predict", given)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def rows(out):
    return json.loads((out / "detections.json").read_text())


def table(out):
    with open(out / "detections.csv", newline="") as file:
        return list(csv.DictReader(file))


def leftovers(out):
    return [p.name for p in out.rglob(".*")]


def test_a_folder(predict, folder, tmp_path):
    (folder / "notes.txt").write_text("no picture")
    code, out, err = predict("--input", folder, "--output", tmp_path / "found")
    names = sorted(p.name for p in folder.glob("*.jpg"))
    assert code == 0 and "1 of 5 entries are skipped, such as notes.txt" in err
    assert err.count("\n") == 1
    assert out.startswith("4 pictures, ") and str(tmp_path / "found") in out
    written = sorted(p.name for p in (tmp_path / "found").iterdir())
    assert written == sorted([*names, "detections.csv", "detections.json"])
    for name in names:
        before, after = (cv2.imread(str(p / name)) for p in (folder, tmp_path / "found"))
        assert before.shape == after.shape and np.abs(before.astype(int) - after).max() > 60
    found, listed = rows(tmp_path / "found"), table(tmp_path / "found")
    assert {(r["image_id"], r["file_name"]) for r in found} == set(enumerate(names, start=1))
    assert len(found) == len(listed) > 40
    for row, line in zip(found, listed, strict=True):
        assert (line["file_name"], line["category"]) == (row["file_name"], row["category"])
        assert float(line["score"]) == pytest.approx(row["score"], abs=1e-6)
        box = [float(line[key]) for key in ("x", "y", "width", "height")]
        assert box == pytest.approx(row["bbox"], abs=1e-3)


def test_a_broken_picture_is_named_and_the_others_are_done(predict, folder, tmp_path):
    broken = sorted(folder.glob("*.jpg"))[1]
    broken.write_bytes(broken.read_bytes()[:300])
    code, out, err = predict("--input", folder, "--output", tmp_path / "found")
    assert code == 1 and out.startswith("3 pictures") and "1 could not be read" in out
    assert err.count("\n") == 1 and str(broken) in err
    assert {r["image_id"] for r in rows(tmp_path / "found")} == {1, 3, 4}
    assert not (tmp_path / "found" / broken.name).exists()
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"x")
    code, out, err = predict("--input", folder, "--output", tmp_path / "none")
    assert code == 2 and "(all 4 failed)" in err and not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["folder", "pattern", "files"])
def test_a_broken_link_is_named_and_the_others_are_done(predict, folder, tmp_path, form):
    link = folder / "b.jpg"
    link.symlink_to("nowhere.jpg")
    given = {"folder": [folder], "pattern": [f"{folder}/*.jpg"], "files": folder.glob("*.jpg")}
    code, out, err = predict("--input", *given[form], "--output", tmp_path / "found")
    assert code == 1 and out.startswith("4 pictures") and "1 could not be read" in out
    assert err == (
        f"skipped: {link}: is a link to nowhere.jpg, which cannot be found: correct or remove it\n"
    )
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 4


@pytest.mark.parametrize(("ending", "shape"), [("jpg", (1, 2000)), ("webp", (3000, 2))])
def test_a_picture_too_long_for_the_short_side(predict, folder, tmp_path, ending, shape):
    long = folder / f"a.{ending}"
    cv2.imwrite(str(long), np.full((*shape, 3), 90, np.uint8))
    out = tmp_path / "found"
    code, _, err = predict("--input", folder, "--output", out, "--short-side", 200)
    width, height = (16383, 8) if ending == "jpg" else (11, 16383)
    assert code == 0 and err == (
        f"{long.name}: drawn with {width} x {height} pixels, as a drawn picture has at most 16383 "
        "on a side\n"
    )
    assert cv2.imread(str(out / long.name)).shape == (height, width, 3)
    others = [cv2.imread(str(path)) for path in out.glob("*.jpg") if path.name != long.name]
    assert [min(other.shape[:2]) for other in others] == [200] * 4


def test_a_video_stays_a_video(predict, tmp_path):
    write_video(tmp_path / "a.avi")
    code, out, err = predict("--input", tmp_path / "a.avi", "--output", tmp_path / "found")
    assert (code, err) == (0, "") and out.startswith("8 frames, ")
    (video,) = (p for p in (tmp_path / "found").iterdir() if p.suffix in (".mp4", ".avi"))
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8 and capture.get(cv2.CAP_PROP_FPS) == 10
    assert capture.read()[1].shape == (64, 96, 3)
    found = rows(tmp_path / "found")
    assert {r["frame"] for r in found} == {r["image_id"] for r in found} == set(range(1, 9))
    assert {r["file_name"] for r in found} == {"a.avi"} and not leftovers(tmp_path / "found")


def test_a_broken_frame_is_named_and_the_others_are_done(predict, tmp_path):
    write_video(tmp_path / "a.avi")
    break_frame(tmp_path / "a.avi", 4)
    code, out, err = predict("--input", tmp_path / "a.avi", "--output", tmp_path / "found")
    assert code == 1 and out.startswith("7 frames")
    assert err == f"skipped: {tmp_path}/a.avi, frame 4: cannot be decoded\n"
    assert {r["frame"] for r in rows(tmp_path / "found")} == {1, 2, 3, 5, 6, 7, 8}


def test_a_picture_several_and_a_pattern(predict, folder, tmp_path):
    files = sorted(folder.glob("*.jpg"))
    assert predict("--input", files[0])[0] == 0
    assert predict("--input", *files[:2], "--no-pictures")[0] == 0
    assert predict("--input", f"{tmp_path}/*/*.jpg", "--output", tmp_path / "c")[0] == 0
    first, second = tmp_path / "output/predict", tmp_path / "output/predict-2"
    assert (first / files[0].name).is_file()
    assert sorted(p.name for p in second.iterdir()) == ["detections.csv", "detections.json"]
    assert {r["file_name"] for r in rows(second)} == {f.name for f in files[:2]}
    assert {r["file_name"] for r in rows(tmp_path / "c")} >= {f.name for f in files}


def test_classes_and_threshold(predict, folder, tmp_path):
    given = ["--input", folder, "--classes", "ring,0", "--output", tmp_path / "found"]
    assert predict(*given)[0] == 0
    assert {r["category"] for r in rows(tmp_path / "found")} <= {"ring", "circle"}
    code, out, _ = predict("--input", folder, "--output", tmp_path / "high", threshold=1)
    assert code == 0 and "nothing found" in out and rows(tmp_path / "high") == []
    code, _, err = predict("--input", folder, "--classes", "rnig")
    assert code == 2 and "the nearest is ring" in err and not (tmp_path / "output").exists()


def test_nothing_is_overwritten_without_the_option(predict, folder, tmp_path):
    out = tmp_path / "found"
    assert predict("--input", folder, "--output", out)[0] == 0
    code, _, err = predict("--input", folder, "--output", out)
    assert code == 2 and "is not empty" in err and "--overwrite" in err
    assert predict("--input", folder, "--output", out, "--overwrite")[0] == 0
    before = {p: p.read_bytes() for p in folder.iterdir()}
    code, _, err = predict("--input", folder, "--output", folder, "--overwrite")
    assert code == 2 and "holds the input" in err
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("form", ["picture", "folder", "pattern", "files", "hard link", "middle"])
def test_no_input_is_overwritten_through_a_link(predict, folder, tmp_path, form):
    """b/x.jpg is a link to a picture of the output folder."""
    out, links = tmp_path / "out", tmp_path / "b"
    shutil.copytree(folder, out)
    links.mkdir()
    (file, *_) = sorted(out.iterdir())
    link = links / file.name
    if form == "middle":
        file.rename(tmp_path / "real.jpg")
        file.symlink_to("../real.jpg")
    link.hardlink_to(file) if form == "hard link" else link.symlink_to(f"../out/{file.name}")
    before = file.read_bytes()
    shutil.copy(file, links / "a.jpg")
    given = {"folder": [links], "pattern": [f"{links}/*.jpg"], "files": sorted(links.iterdir())}
    words = ["--input", *given.get(form, [link]), "--output", out, "--overwrite"]
    code, _, err = predict(*words)
    assert code == 2 and f"{file} is also read, by its name or a link" in err
    assert err.count("\n") == 1 and file.read_bytes() == before
    assert len(list(out.iterdir())) == 4
    assert predict(*words, "--no-pictures")[0] == 0 and file.read_bytes() == before


def test_no_video_is_overwritten_through_a_link(predict, tmp_path):
    (tmp_path / "out").mkdir()
    write_video(tmp_path / "out/a.avi")
    (tmp_path / "a.mp4").symlink_to("out/a.avi")
    before = (tmp_path / "out/a.avi").read_bytes()
    given = ["--input", tmp_path / "a.mp4", "--output", tmp_path / "out", "--overwrite"]
    code, _, err = predict(*given)
    assert code == 2 and "out/a.avi is also read" in err and err.count("\n") == 1
    assert (tmp_path / "out/a.avi").read_bytes() == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.avi"]


def test_a_folder_with_the_name_of_a_file(predict, folder, tmp_path):
    (tmp_path / "found/detections.csv").mkdir(parents=True)
    code, _, err = predict("--input", folder, "--output", tmp_path / "found", "--overwrite")
    assert code == 2 and "found/detections.csv is a folder" in err and err.count("\n") == 1


def test_a_failed_run_leaves_no_incomplete_file(predict, folder, tmp_path, monkeypatch):
    from dynamic_atss.inference import outputs

    def fail(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_image", fail)
    code, _, err = predict("--input", folder, "--output", tmp_path / "found")
    assert code == 2 and "No space left" in err and err.count("\n") == 1
    assert not (tmp_path / "found").exists()


LIMITED = """
import resource, sys
from helpers_run import load_module
from dynamic_atss import cli
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.run(load_module("tools/predict.py").main)
"""


@pytest.mark.parametrize(
    ("threshold", "limit", "message"),
    [
        (
            1,
            20_000,
            r"found/a\.\w+: (frame \d+ cannot|only \d+ of 20 frames can) be .*disk is full",
        ),
        (0, 4_000, r"found: cannot be written \(File too large\)"),  # while frames are added
        (1, 0, r"found: cannot be written \(File too large\)"),  # at the start
    ],
)
def test_a_video_and_its_tables_on_a_full_disk(run, tmp_path, threshold, limit, message):
    rng = np.random.default_rng(0)
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), codec, 10, (96, 64))
    for _ in range(20):
        video.write(rng.integers(0, 256, (64, 96, 3), np.uint8))
    video.release()
    given = ["--weights", run, "--input", "a.avi", "--output", "found", "--threshold", threshold]
    words = [sys.executable, "-c", LIMITED, *map(str, [limit, *given])]
    path = {"PYTHONPATH": f"{ROOT}/tests:{ROOT}"}
    done = subprocess.run(
        words, env={**environment(), **path}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(f"error: {message}.*\n", done.stderr.rpartition("\r")[2]), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.avi"]


def test_a_failure_at_the_last_moment_publishes_nothing(predict, tmp_path, monkeypatch):
    """The disk becomes full when the tables are synced, after all frames are written."""
    import os

    write_video(tmp_path / "a.avi")
    sync = os.fsync

    def full(file):
        if "detections.csv" in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = predict("--input", tmp_path / "a.avi", "--output", tmp_path / "found")
    assert code == 2 and "found: cannot be written (No space left" in err and err.count("\n") == 1
    assert not (tmp_path / "found").exists()


def test_after_a_signal_the_drawn_pictures_stay(predict, folder, tmp_path, monkeypatch):
    from dynamic_atss.engine.interrupt import Stopped
    from dynamic_atss.inference import outputs

    write, drawn = outputs.write_image, []

    def write_two(path, image):
        if len(drawn) == 2:
            raise Stopped(signal.SIGINT)
        drawn.append(path)
        write(path, image)

    monkeypatch.setattr(outputs, "write_image", write_two)
    code, _, err = predict("--input", folder, "--output", tmp_path / "found")
    assert code == 130 and "stopped by SIGINT after 2 pictures: drawn pictures stay in" in err
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == sorted(p.name for p in drawn)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "nowhere"], "nowhere: no such picture, folder or video"),
        (["--input", "."], "the folder has no pictures"),
        (["--input", "text.jpg"], "text.jpg: the image cannot be decoded"),
        (["--input", "text.mp4"], "text.mp4: the video cannot be opened"),
        (["--input", "97"], "camera 97: no such camera"),
        (["--input", "99999999999"], "camera 99999999999: give the number of a camera, 0 to 9999"),
        (["--input", "text.jpg", "."], "--input .: is a folder; several inputs must all be"),
        (["--input", ""], "the input is an empty text"),
        (["--input", "text.jpg", "text.mp4"], "text.mp4: is a video: give each video alone"),
        (
            ["--input", "text.jpg", "--overlap", "0.3"],
            "--overlap 0.3: works only with tiles: add --tile",
        ),
        (["--input", "text.jpg", "--short-side", "0"], "--short-side 0: give 1 to 16383 pixels"),
        (["--input", "text.jpg", "--short-side", "16384"], "--short-side 16384: give 1 to 16383"),
        (["--input", "text.jpg", "--classes", ","], "a name is empty"),
        (["--input", "text.jpg", "--names", "a,b"], "(in Python class_names=) gives 2"),
        (["--input", "*.tif"], r"no file matches this pattern"),
        (["--input", "text.jpg", "--device", "gpu"], "device 'gpu'"),
        (["--input", "text.jpg", "--weights", "none.pth"], "none.pth: no such weights"),
        (["--input", "text.jpg", "--set", "INPUT.MIN_SIZ_TEST", "9"], "nearest is INPUT.MIN_SIZE"),
    ],
)
def test_mistakes(predict, tmp_path, args, message):
    for name in ("text.jpg", "text.mp4"):
        (tmp_path / name).write_text("no picture")
    code, out, err = predict(*args)
    if args[1] == ".":
        (tmp_path / "text.jpg").unlink()
        code, out, err = predict(*args)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert re.search(re.escape(message).replace("\\ ", " "), err), err


def test_names_of_files_cannot_control_the_terminal(predict, folder, tmp_path):
    (folder / "a\x1b[31m.jpg").write_bytes(b"broken")
    code, out, err = predict("--input", folder, "--output", tmp_path / "found")
    assert code == 1 and "\x1b[31m" not in out + err and "a\\x1b[31m.jpg" in err


def test_the_tool_in_a_new_process(run, folder, tmp_path):
    done = run_tool("predict", ["--weights", run, "--input", folder], cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("4 pictures"), done.stderr
    assert (tmp_path / "output/predict/detections.json").is_file()
