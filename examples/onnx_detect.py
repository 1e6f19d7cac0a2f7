"""Detects with an exported file. It needs only onnxruntime and OpenCV.

dynamic-atss export --weights output/demo/run --format onnx --output model.onnx
python examples/onnx_detect.py model.onnx picture.jpg
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def resized(image: np.ndarray, axis: int, new: int) -> np.ndarray:
    """Resizes one axis to `new` pixels, bilinearly with antialias, as in the test."""
    old = image.shape[axis]
    centers = (np.arange(new)[:, None] + 0.5) * old / new
    near = (1 - abs(np.arange(old) + 0.5 - centers) / max(old / new, 1)).clip(0)
    pixels = np.tensordot(near / near.sum(1, keepdims=True), image, (1, axis))
    return np.moveaxis(np.floor(pixels + 0.5 + 1e-9), 0, axis)  # rounds halves up


session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
low, high, step = (int(about[k]) for k in ("min_size", "max_size", "size_divisibility"))
turn = 0 if about["exif"] == "apply" else cv2.IMREAD_IGNORE_ORIENTATION
image = cv2.imread(sys.argv[2], cv2.IMREAD_COLOR_RGB | turn)
assert image is not None, f"{sys.argv[2]}: cannot be read as a picture"
height, width = image.shape[:2]
short, long = min(height, width), max(height, width)
side = low if long / short * low <= high else max(round(high * short / long), 1)
h, w = (side, int(side * long / short))[:: 1 if height <= width else -1]
pixels = np.zeros((1, 3, -(-h // step) * step, -(-w // step) * step), np.uint8)
pixels[0, :, :h, :w] = resized(resized(image, 1, w), 0, h).transpose(2, 0, 1)
given = {"images": pixels, "sizes": [[h, w]], "original_sizes": [[height, width]]}
boxes, scores, classes, counts = session.run(None, {k: np.array(v) for k, v in given.items()})
names = json.loads(about["class_names"])
for n in range(counts[0]):
    print(names[classes[0, n]], f"{scores[0, n]:.4f}", boxes[0, n].round(1).tolist())
