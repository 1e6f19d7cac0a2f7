"""A small video, and how one frame of it is broken."""

import re
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, frames: int = 8, codec: str = "MJPG") -> None:
    """96 x 64 pixels, 10 frames per second, each frame brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (96, 64))
    assert writer.isOpened()
    for number in range(frames):
        frame = np.full((64, 96, 3), 20 * number, np.uint8)
        cv2.rectangle(frame, (10 + 5 * number, 20), (40 + 5 * number, 45), (0, 0, 255), -1)
        writer.write(frame)
    writer.release()


def frame_place(data: bytes, number: int) -> int:
    """Where a frame, from 1, begins in an AVI file of JPEGs."""
    return [m.start() for m in re.finditer(b"00dc....\xff\xd8", data, re.S)][number - 1]


def break_frame(path: Path, number: int) -> None:
    """Zeros in place of the JPEG of a frame, from 1."""
    data = bytearray(path.read_bytes())
    at = frame_place(bytes(data), number)
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    data[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(data)
