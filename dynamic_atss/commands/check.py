"""Checks data sets before a training: annotations, every picture and duplicates.

dynamic-atss check coco:my/train.json:my/images coco:my/val.json:my/images --html my.html
dynamic-atss check voc:my/devkit:trainval --fix clean.json
dynamic-atss check --config-file configs/X.yaml [--set KEY VALUE ...]
"""

import argparse
import json
from pathlib import Path

from yacs.config import CfgNode

from dynamic_atss import cli
from dynamic_atss.errors import UserError
from dynamic_atss.quoting import printable

DESCRIPTION = """Check data sets. The first SPEC (or DATASETS.TRAIN) is the training set; the others
(or DATASETS.TEST) are test sets. Exit code 0: no fault, 1: something must be fixed, 2: a mistake in
the command line."""


def main() -> int:
    args = _arguments()
    cfg = cli.configuration(args)
    train, tests = _names(args, cfg)

    from dynamic_atss.builders.check_data import check_data
    from dynamic_atss.data.check.check_all import as_json, counted, fix
    from dynamic_atss.data.survey import several
    from dynamic_atss.files import write_text
    from dynamic_atss.viz.dataset_page import dataset_page

    sets, found = check_data(cfg, train, tests)
    code = int(any(finding.level in ("stop", "fix") for finding in found))
    for finding in found:
        print(printable(f"{finding.level}: {finding.line}"))
        for item in finding.items[1:10]:
            print(printable(f"    {item}"))
    if args.json:
        write_text(args.json, json.dumps(as_json(sets, found, code), indent=1))
    if args.html:
        good = [(s.spec, s.surveyed) for s in sets if s.dataset is not None]
        write_text(args.html, dataset_page(good, found))
    if args.fix:
        print(f"{args.fix}: {'; '.join(fix(sets[0], args.fix)) or 'nothing had to be changed'}")
    warnings = several(sum(finding.level == "warning" for finding in found), "warning")
    result = "something must be fixed" if code else "nothing must be fixed"
    print(f"{counted(sets)}: {result}, {warnings}")
    return code


def _arguments() -> argparse.Namespace:
    parser = cli.Parser(description=DESCRIPTION)
    parser.add_argument("specs", nargs="*", metavar="SPEC", help="a data set, as in DATASETS.TRAIN")
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="configuration with the head and the image sizes",
    )
    parser.add_argument(
        "--set", nargs="+", default=[], dest="opts", metavar="KEY VALUE", help="override keys"
    )
    parser.add_argument("--allow-code", action="store_true", help="run code that the file names")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write the findings to a JSON file"
    )
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a cleaned COCO file of SPEC")
    return parser.parse_args()


def _names(args: argparse.Namespace, cfg: CfgNode) -> tuple[list[str], list[str]]:
    """Gives the names of the training sets and of the test sets.

    Raises:
        UserError: there is no data set, or --fix cannot be done.
    """
    train, tests = args.specs[:1], args.specs[1:]
    if not args.specs:
        train, tests = [*cfg.DATASETS.TRAIN], [*cfg.DATASETS.TEST]
    if not train + tests:
        raise UserError("no data set: give a SPEC, such as coco:<annotations.json>:<image folder>")
    if args.fix and len(train + tests) != 1:
        raise UserError(f"--fix {args.fix}: cleans one data set at a time: give one SPEC")
    if args.fix and args.fix.exists():
        raise UserError(f"--fix {args.fix}: exists already: give the name of a new file")
    return train, tests
