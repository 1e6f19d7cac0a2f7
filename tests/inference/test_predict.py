"""Tests `dynamic-atss predict`: the files that it writes, and the mistakes that it refuses."""

import csv
import json
import re
import signal

import cv2
import numpy as np
import pytest
from helpers_run import run_tool
from helpers_video import break_frame, write_video


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
    assert f"{tmp_path}/a.avi, frame 4" in err and err.count("\n") == 1
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


def test_a_failed_run_leaves_no_incomplete_file(predict, folder, tmp_path, monkeypatch):
    from dynamic_atss.inference import outputs

    def fail(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_image", fail)
    code, _, err = predict("--input", folder, "--output", tmp_path / "found")
    assert code == 2 and "No space left" in err and err.count("\n") == 1
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
