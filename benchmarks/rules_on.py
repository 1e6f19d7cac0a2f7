"""Runs `dynamic-atss compare` for the scripts `rules_on_<data set>.py`.

Every rule gets the same network, seeds, budget and order of images. The network is that of
configs/quickstart/own_data.yaml (EfficientNet-lite0 with ImageNet weights from pip, the ATSS head)
with 64 channels. Two CPU cores train it in minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynamic_atss import cli
from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.commands.compare import main

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/quickstart/own_data.yaml"
SETTINGS = {
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": "64",
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": "0.5",
    "SOLVER.LOG_PERIOD": "10",
    "DATALOADER.NUM_WORKERS": "0",
}


def sizes(short: int, long: int) -> dict[str, str]:
    """Returns the settings that resize pictures to a short side, with long sides up to `long`."""
    return {
        "INPUT.MIN_SIZE_TRAIN": f"({short},)",
        "INPUT.MAX_SIZE_TRAIN": f"{long}",
        "INPUT.MIN_SIZE_TEST": f"{short}",
        "INPUT.MAX_SIZE_TEST": f"{long}",
    }


def run(name: str, parts: Sequence[str], pictures: str, settings: Mapping[str, str]) -> None:
    """Runs `compare` with the command line's arguments.

    Args:
        name: of the data set, for the output folder.
        parts: annotations for training and for the test, in the folder of the data set.
        pictures: folder of pictures in it; "{part}" stands for the end of the annotations' name.
        settings: keys of the configuration.
    """
    args, others = _parser(name).parse_known_args()
    folder = args.data.resolve()
    train, test = (
        f"coco:{folder}/{part}:{folder}/{pictures.format(part=Path(part).stem.split('_')[-1])}"
        for part in parts
    )
    keys = {"DATASETS.TRAIN": train, "DATASETS.TEST": test, **SETTINGS, **settings}
    keys["SOLVER.MAX_ITER"] = f"{args.iterations}"
    keys["SOLVER.WARMUP_ITERS"] = f"{max(1, args.iterations // 10)}"
    sys.argv = [sys.argv[0], *_command(args, keys), *others]
    cli.run(main)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"Compares rules on {name}. Whatever else `dynamic-atss compare` takes may "
        "follow, such as --devices cpu cpu, or KEY VALUE."
    )
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {name}")
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--rules", nargs="+", default=[*ASSIGNERS])
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--output", type=Path, default=ROOT / f"output/rules_on_{name}")
    return parser


def _command(args: argparse.Namespace, keys: Mapping[str, str]) -> list[str]:
    """Returns the arguments of `compare`. ATSS, if it is among the rules, is the reference."""
    reference = "atss" if "atss" in args.rules else args.rules[0]
    words = ["--config-file", str(CONFIG), "--output", str(args.output), "--reference", reference]
    words += ["--rules", *args.rules, "--seeds", *args.seeds]
    return words + [word for pair in keys.items() for word in pair]
