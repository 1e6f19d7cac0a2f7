"""See which priors learn which box, and why the others do not, on one HTML page.

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

DESCRIPTION = """Write one HTML page on which one sees, picture by picture and rule by rule, which
priors learn which box, and why the others do not; with a run's folder, how that moves as the
predictions learn."""


def main() -> int:
    args = _arguments()
    asked = parsed(args.rules) if args.rules else []
    rules = [(rule.label, rule.name, rule.arguments) for rule in asked]

    from dynamic_atss.files import check_place, write_text
    from dynamic_atss.inspection.page import page
    from dynamic_atss.inspection.pictures import open_images
    from dynamic_atss.inspection.run import page_data
    from dynamic_atss.inspection.source import find_source

    check_place(args.output)
    given = {"allow_code": args.allow_code, "most": args.steps}
    source = find_source(args.weights, args.config_file, args.set, **given)
    dataset = open_images(source.cfg, args.images)
    chosen = {"count": args.count, "only": args.only, "averaged": args.averaged}
    data = page_data(source, dataset, rules, **chosen)
    text = page(data)
    write_text(args.output, text)
    counts = [f"{len(data[name])} {name}" for name in ("pictures", "rules", "steps")]
    print(f"{args.output}: {', '.join(counts)}, {len(text.encode()) / 1e6:.1f} MB")
    return 0


def _arguments() -> argparse.Namespace:
    parser = cli.Parser(description=DESCRIPTION)
    add = parser.add_argument
    add("--weights", default="", metavar="RUN_OR_FILE", help="a run's folder, or one checkpoint")
    add("--config-file", default="", metavar="FILE", help="in place of the run's config.yaml")
    add("--rules", nargs="+", default=[], metavar="RULE", help="names, or NAME,ARGUMENT=VALUE,...")
    add("--images", default="", metavar="SPEC", help="a data set, as in DATASETS.TRAIN")
    add("--count", type=int, default=6, help="pictures of it, spread evenly")
    add("--only", nargs="+", default=[], metavar="NAME", help="these: file names or image ids")
    add("--steps", type=int, default=6, help="most checkpoints of a run, spread evenly")
    add("--averaged", action="store_true", help="averaged weights, which no rule saw in training")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="override keys")
    add("--allow-code", action="store_true", help="run code that the configuration names")
    add("--output", type=Path, default=Path("assignment.html"), help="the page to write")
    args = parser.parse_args()
    for name in ("count", "steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    return args
