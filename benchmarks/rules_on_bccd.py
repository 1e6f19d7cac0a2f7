"""Every rule with the same network, seeds, budget and order of images on BCCD.

    python benchmarks/rules_on_bccd.py --data ../shared/data/bccd [--iterations 300] [--seeds 0 1 2]

`dynamic-atss compare` with configs/quickstart/bccd_R_18.yaml (ResNet-18 from scratch, the ATSS
head, 8 images of 320 x 240 in an iteration), trained on `trainval` and scored on `test`. Whatever
else `compare` takes may follow, such as `--devices cpu cpu` or `KEY VALUE`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dynamic_atss import cli
from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.commands.compare import main

ROOT = Path(__file__).resolve().parents[1]


def arguments(args: argparse.Namespace, rest: list[str]) -> list[str]:
    """The command line of `compare`."""
    folder = args.data.resolve()
    parts = {"TRAIN": "trainval", "TEST": "test"}
    settings = [
        word
        for key, part in parts.items()
        for word in (
            f"DATASETS.{key}",
            f"coco:{folder}/coco/instances_{part}.json:{folder}/JPEGImages",
        )
    ]
    settings += ["SOLVER.MAX_ITER", f"{args.iterations}", "SOLVER.LOG_PERIOD", "10"]
    config = ROOT / "configs/quickstart/bccd_R_18.yaml"
    own = ["--config-file", str(config), "--output", str(args.output), "--reference", "atss"]
    return [*own, "--rules", *args.rules, "--seeds", *args.seeds, *settings, *rest]


def parsed() -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of BCCD, with coco/")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--rules", nargs="+", default=[*ASSIGNERS])
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--output", type=Path, default=ROOT / "output/rules_on_bccd")
    return arguments(*parser.parse_known_args())


if __name__ == "__main__":
    sys.argv = [sys.argv[0], *parsed()]
    cli.run(main)
