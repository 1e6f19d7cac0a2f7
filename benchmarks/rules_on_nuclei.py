"""Compares every rule on nuclei, which are crowds of tiny objects.

394 pictures with 16,967 nuclei are for training, 139 pictures for the test.

    python benchmarks/rules_on_nuclei.py --data ../shared/data/nuclei [--seeds 0 1 2]

4 pictures of a short side of 256 in an iteration. See `rules_on.py`.
"""

from rules_on import run, sizes

if __name__ == "__main__":
    annotations = ("annotations/train.json", "annotations/val.json")
    run("nuclei", annotations, "images", sizes(256, 320) | {"SOLVER.IMS_PER_BATCH": "4"})
