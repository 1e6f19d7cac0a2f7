"""Scores the branches of a run with MODEL.ONE_TO_ONE on its test set, for every checkpoint.

    python benchmarks/without_nms.py output/run

Prints the AP of the one-to-one branch without NMS and with NMS, and that of the other branch with
NMS. `dynamic-atss test` gives the first and the last of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamic_atss import cli
from dynamic_atss.builders import build_test_loaders
from dynamic_atss.engine.evaluator import evaluate_dataset
from dynamic_atss.engine.newest_checkpoint import by_iteration
from dynamic_atss.errors import UserError
from dynamic_atss.inference.restore import restore

# Column -> MODEL.ONE_TO_ONE.PREDICTS, and whether NMS follows.
COLUMNS = {
    "one-to-one": (True, False),
    "one-to-one, NMS": (True, True),
    "one-to-many, NMS": (False, True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="output folder of a training")
    run = parser.parse_args().run
    files = {i: path for i, path in by_iteration(run.glob("model_*.pth")) if i is not None}
    if not files:
        raise UserError(f"{run}: has no checkpoint; give the output folder of a training")
    print("iteration", *COLUMNS, sep=" | ")
    for iteration, file in sorted(files.items()):
        scores = [average_precision(file, *column) for column in COLUMNS.values()]
        print(iteration, *(f"{score:.3f}" for score in scores), sep=" | ", flush=True)
    return 0


def average_precision(file: Path, one_to_one: bool, nms: bool) -> float:
    """Returns the AP of one branch of a checkpoint on the first of DATASETS.TEST."""
    restored = restore(file, overrides=["MODEL.ONE_TO_ONE.PREDICTS", str(one_to_one)])
    detector, cfg = restored.detector, restored.cfg
    detector.postprocess.nms = nms
    loader = next(iter(build_test_loaders(cfg).values()))
    loader.dataset.take_classes(restored.class_names)
    scores = evaluate_dataset(
        detector,
        loader,
        restored.device,
        dataset=loader.dataset,
        max_dets=cfg.TEST.DETECTIONS_PER_IMG,
    )
    if scores is None:
        raise UserError(f"{loader.dataset.annotations}: has no boxes to score against")
    return scores.metrics["AP"]


if __name__ == "__main__":
    cli.run(main)
