"""Writes a small video, and breaks a frame of it."""

import re
from pathlib import Path

import cv2
import numpy as np

import dynamic_atss.inference.video  # noqa: F401  silences FFmpeg, which must precede its first use


def write_video(path: Path, frames: int = 8, codec: str = "MJPG") -> None:
    """Writes 96 x 64 pixels at 10 frames per second; each frame is brighter than the last."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (96, 64))
    assert writer.isOpened()
    for number in range(frames):
        frame = np.full((64, 96, 3), 20 * number, np.uint8)
        cv2.rectangle(frame, (10 + 5 * number, 20), (40 + 5 * number, 45), (0, 0, 255), -1)
        writer.write(frame)
    writer.release()


def frame_place(data: bytes, number: int) -> int:
    """Gives the offset of a frame, counted from 1, in an AVI file of JPEGs."""
    return [m.start() for m in re.finditer(b"00dc....\xff\xd8", data, re.S)][number - 1]


def break_frame(path: Path, number: int) -> None:
    """Overwrites the JPEG of a frame, counted from 1, by zeros."""
    data = bytearray(path.read_bytes())
    start = frame_place(bytes(data), number)
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    data[start + 8 : start + 8 + size] = bytes(size)
    path.write_bytes(data)
