"""Videos: reading all frames, reporting broken ones, and writing a video completely or not."""

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers_run import environment
from helpers_video import break_frame, frame_place, write_video

from dynamic_atss import load
from dynamic_atss.errors import UserError
from dynamic_atss.inference.picture import Broken
from dynamic_atss.inference.video import Video, VideoWriter

PIXELS = 10**6


@pytest.mark.parametrize(("ending", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("webm", "VP80")])
def test_frames_in_turn(tmp_path, ending, codec):
    path = tmp_path / f"a.{ending}"
    write_video(path, codec=codec)
    video = Video(path, PIXELS)
    assert (video.total, video.rate, video.live) == (8, 10.0, False)
    frames = list(video)
    assert [f.frame for f in frames] == list(range(1, 9))
    assert all(f.image.shape == (3, 64, 96) and f.image.dtype == torch.uint8 for f in frames)
    for number, frame in enumerate(frames):
        assert abs(int(frame.image[1, 5, 90]) - 20 * number) < 12
    red, green, blue = (int(v) for v in frames[0].image[:, 32, 25])
    assert red > 200 and green < 60 and blue < 60  # RGB


@pytest.mark.parametrize("broken", [1, 4, 8])
def test_a_broken_frame_is_named_and_the_rest_goes_on(tmp_path, broken):
    path = tmp_path / "a.avi"
    write_video(path)
    break_frame(path, broken)
    frames = list(Video(path, PIXELS))
    assert len(frames) == 8
    lost = [f.message for f in frames if isinstance(f, Broken)]
    assert len(lost) == 1 and f"{path}, frame {broken}" in lost[0]
    assert isinstance(frames[broken - 1], Broken)


def test_a_video_that_was_cut(tmp_path):
    path = tmp_path / "a.avi"
    write_video(path)
    data = path.read_bytes()
    path.write_bytes(data[: frame_place(data, 6) + 9])
    *good, last = Video(path, PIXELS)
    assert [frame.frame for frame in good] == [1, 2, 3, 4, 5]
    assert last == Broken(f"{path}, frames 6 to 8: cannot be decoded")


def test_what_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(UserError, match=r"a.mp4: the video cannot be opened: .* lacks its codec"):
        Video(path, PIXELS)
    write_video(path, codec="mp4v")
    with pytest.raises(UserError, match=r"frames have 96 x 64 pixels, more than INPUT.MAX_PIXELS"):
        Video(path, 1000)


def test_a_written_video_is_whole_or_not_there(tmp_path):
    frames = [torch.full((3, 64, 96), 20 * n, dtype=torch.uint8) for n in range(6)]
    with VideoWriter(tmp_path / "out" / "a", 10.0) as writer:
        for frame in frames:
            writer.add(frame)
        assert not writer.path.exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == [writer.path.name]
    again = Video(writer.path, PIXELS)
    assert again.rate == 10.0
    for ours, theirs in zip(again, frames, strict=True):
        assert (ours.image.int() - theirs.int()).abs().max() < 12
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "out" / "b", 10.0) as other:
        other.add(frames[0])
        raise ZeroDivisionError
    assert [p.name for p in (tmp_path / "out").iterdir()] == [writer.path.name]


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (480, 17)])
@pytest.mark.parametrize("rate", [0.5, 29.97, 1000.0])
def test_a_video_of_any_length_and_size_is_complete(tmp_path, count, size, rate):
    """The count of the frames that are read again has no false alarm."""
    frames = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)
    with VideoWriter(tmp_path / "a", rate) as writer:
        for frame in frames:
            writer.add(frame)
    assert writer.path.is_file()


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from dynamic_atss.errors import UserError
from dynamic_atss.inference.video import VideoWriter
if sys.argv[2] == "old":  # OpenCV before 5 does not report a failed write
    import cv2
    class Writer(cv2.VideoWriter):
        def write(self, pixels):
            super().write(pixels)
    cv2.VideoWriter = Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    with VideoWriter(Path(sys.argv[1]) / "a", 10.0) as writer:
        for _ in range(30):
            writer.add(torch.randint(0, 256, (3, 240, 320), dtype=torch.uint8))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("version", "message"),
    [("new", r"frame \d+ cannot be written"), ("old", r"only \d+ of 30 frames can be read again")],
)
def test_a_video_that_cannot_grow(tmp_path, version, message):
    words = [sys.executable, "-c", LIMITED, str(tmp_path), version]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    assert re.match(rf"{tmp_path}/a.(mp4|avi): {message}: the disk is full", done.stdout)
    assert not list(tmp_path.iterdir())


def test_no_codec_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda self: False)
    with pytest.raises(UserError, match="can write no video here"):
        VideoWriter(tmp_path / "a", 10.0).add(torch.zeros(3, 64, 96, dtype=torch.uint8))


def test_the_model_takes_a_video(run, tmp_path, caplog):
    path = tmp_path / "a.avi"
    write_video(path)
    model = load(run)
    stream = model(path, threshold=0)
    found = next(stream)
    assert (found.frame, stream.total) == (1, 8) and found.name == "a.avi"
    rest = list(stream)
    assert [f.frame for f in rest] == list(range(2, 9))
    alone = model(np.ascontiguousarray(found.image.permute(1, 2, 0).numpy()[:, :, ::-1]))
    assert np.array_equal(alone.xywh, found[found.scores >= 0.3].xywh)
    break_frame(path, 3)
    stream = model(path)
    assert [f.frame for f in stream] == [1, 2, 4, 5, 6, 7, 8]
    (broken,) = stream.broken
    assert f"{path}, frame 3" in broken and "frame 3" in caplog.text


class Camera:
    """Replaces a camera: gives frames without end."""

    def __init__(self, number):
        self.number, self.read_so_far = number, 0

    def isOpened(self):
        return self.number == 0

    def get(self, capture_property):
        return {cv2.CAP_PROP_FRAME_WIDTH: 96, cv2.CAP_PROP_FRAME_HEIGHT: 64}.get(
            capture_property, -1
        )

    def read(self):
        self.read_so_far += 1
        return True, np.full((64, 96, 3), self.read_so_far % 200, np.uint8)

    def release(self):
        pass


def test_a_camera_has_no_end(run, monkeypatch):
    cameras = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda n: cameras.append(Camera(n)) or cameras[-1])
    stream = load(run)(0, batch=4)
    assert stream.total is None and stream.source.video.rate == 25.0
    for number in range(1, 4):
        assert next(stream).frame == number
        assert cameras[0].read_so_far == number  # no frame waits for others
