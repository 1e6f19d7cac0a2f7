"""Tests that `dynamic-atss predict` loses no input, and writes all of a video or nothing."""

import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers_run import ROOT, environment
from helpers_video import write_video


@pytest.mark.parametrize("form", ["folder", "pattern", "files"])
def test_a_broken_link_is_named_and_the_others_are_done(predict, folder, tmp_path, form):
    link = folder / "b.jpg"
    link.symlink_to("nowhere.jpg")
    given = {"folder": [folder], "pattern": [f"{folder}/*.jpg"], "files": folder.glob("*.jpg")}
    code, out, err = predict("--input", *given[form], "--output", tmp_path / "found")
    assert code == 1 and out.startswith("4 pictures") and "1 could not be read" in out
    assert f"skipped: {link}" in err and "nowhere.jpg" in err and err.count("\n") == 1
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 4


@pytest.mark.parametrize(("ending", "shape"), [("jpg", (1, 2000)), ("webp", (3000, 2))])
def test_a_picture_too_long_for_the_short_side(predict, folder, tmp_path, ending, shape):
    long = folder / f"a.{ending}"
    cv2.imwrite(str(long), np.full((*shape, 3), 90, np.uint8))
    out = tmp_path / "found"
    code, _, err = predict("--input", folder, "--output", out, "--short-side", 200)
    width, height = (16383, 8) if ending == "jpg" else (11, 16383)
    assert code == 0 and err.startswith(long.name) and err.count("\n") == 1
    assert f"{width} x {height} pixels" in err
    assert cv2.imread(str(out / long.name)).shape == (height, width, 3)
    others = [cv2.imread(str(path)) for path in out.glob("*.jpg") if path.name != long.name]
    assert [min(other.shape[:2]) for other in others] == [200] * 4


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


LIMITED = """
import resource, sys
from helpers_run import load_module
from dynamic_atss import cli
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.run(load_module("tools/predict.py").main)
"""


@pytest.mark.slow
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
