"""Shows on one HTML page which priors learn which box, and why the others do not.

dynamic-atss inspect --weights output/mine
dynamic-atss inspect --weights output/mine --rules dynamic_atss atss simota --output page.html
dynamic-atss inspect --config-file configs/X.yaml --rules atss atss,topk=15 --images shapes_val
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamic_atss import cli
from dynamic_atss.comparison.rules import parsed
from dynamic_atss.errors import UserError

DESCRIPTION = """Write one HTML page that shows, for each picture and each rule, which priors learn
which box, and why the others do not. With the folder of a run, it also shows how the assignment
changes from checkpoint to checkpoint."""


def main() -> int:
    args = _arguments()
    requests = parsed(args.rules) if args.rules else []
    rules = [(rule.label, rule.name, rule.arguments) for rule in requests]

    from dynamic_atss.files import check_place, write_text
    from dynamic_atss.inspection.page import page
    from dynamic_atss.inspection.pictures import open_images
    from dynamic_atss.inspection.run import page_data
    from dynamic_atss.inspection.source import find_source

    check_place(args.output)
    source = find_source(
        args.weights,
        args.config_file,
        args.set,
        allow_code=args.allow_code,
        rules=[name for _, name, _ in rules],
        most=args.steps,
    )
    dataset = open_images(source.cfg, args.images)
    data = page_data(
        source,
        dataset,
        rules,
        count=args.count,
        only=args.only,
        averaged=args.averaged,
    )
    text = page(data)
    write_text(args.output, text)
    counts = [f"{len(data[name])} {name}" for name in ("pictures", "rules", "steps")]
    print(f"{args.output}: {', '.join(counts)}, {len(text.encode()) / 1e6:.1f} MB")
    return 0


def _arguments() -> argparse.Namespace:
    parser = cli.Parser(description=DESCRIPTION)
    add = parser.add_argument
    add("--weights", default="", metavar="RUN_OR_FILE", help="a run's folder or a checkpoint")
    add(
        "--config-file",
        default="",
        metavar="FILE",
        help="read this file instead of the run's config.yaml",
    )
    add(
        "--rules",
        nargs="+",
        default=[],
        metavar="RULE",
        help="rules to show: names, or NAME,ARGUMENT=VALUE,...",
    )
    add("--images", default="", metavar="SPEC", help="a data set, as in DATASETS.TRAIN")
    add("--count", type=int, default=6, help="number of pictures, evenly spread over the set")
    add("--only", nargs="+", default=[], metavar="NAME", help="file names or image ids to show")
    add("--steps", type=int, default=6, help="largest number of checkpoints, evenly spread")
    add("--averaged", action="store_true", help="use the averaged weights (of SOLVER.EMA_DECAY)")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="override keys")
    add("--allow-code", action="store_true", help="run code that the configuration names")
    add("--output", type=Path, default=Path("assignment.html"), help="the page to write")
    args = parser.parse_args()
    for name in ("count", "steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    return args
