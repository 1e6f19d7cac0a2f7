"""Detects with an exported file. It needs only onnxruntime and OpenCV.

dynamic-atss export --weights output/demo/run --format onnx --output model.onnx
python examples/onnx_detect.py model.onnx picture.jpg
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def weights(old: int, new: int) -> np.ndarray:
    """Gives weights (new, old) for a bilinear resize with antialias, as in the test."""
    centers = (np.arange(new)[:, None] + 0.5) * old / new
    near = (1 - abs(np.arange(old) + 0.5 - centers) / max(old / new, 1)).clip(0)
    return near / near.sum(1, keepdims=True)


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
columns = np.tensordot(image, weights(width, w), (1, 1)).round()  # (height, 3, w)
pixels = np.zeros((1, 3, -(-h // step) * step, -(-w // step) * step), np.uint8)
pixels[0, :, :h, :w] = np.tensordot(weights(height, h), columns, (1, 0)).round().swapaxes(0, 1)
given = {"images": pixels, "sizes": [[h, w]], "original_sizes": [[height, width]]}
boxes, scores, classes, counts = session.run(None, {k: np.array(v) for k, v in given.items()})
names = json.loads(about["class_names"])
for n in range(counts[0]):
    print(names[classes[0, n]], f"{scores[0, n]:.4f}", boxes[0, n].round(1).tolist())
