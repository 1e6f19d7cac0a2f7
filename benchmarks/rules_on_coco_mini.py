"""Compares every rule on 80 + 79 pictures of COCO, 80 classes.

The results are boxes without a positive and the IoU of positives. The pictures are too few to
compare rules by AP.

    python benchmarks/rules_on_coco_mini.py --data ../shared/data/coco_mini [--seeds 0 1 2]

4 pictures of a short side of 256 in an iteration. See `rules_on.py`.
"""

from rules_on import run, sizes

if __name__ == "__main__":
    annotations = tuple(f"annotations/instances_{part}2017.json" for part in ("train", "val"))
    run("coco_mini", annotations, "{part}", sizes(256, 320) | {"SOLVER.IMS_PER_BATCH": "4"})
