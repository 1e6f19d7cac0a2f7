"""Compares every rule on BCCD: 292 pictures of blood cells to train on, 72 to test, 3 classes.

    python benchmarks/rules_on_bccd.py --data ../shared/data/bccd [--iterations 120] [--seeds 0 1 2]

8 pictures of 160 x 120 in an iteration. See `rules_on.py`.
"""

from rules_on import run, sizes

if __name__ == "__main__":
    annotations = ("coco/instances_trainval.json", "coco/instances_test.json")
    run("bccd", annotations, "JPEGImages", sizes(120, 160))
