"""Compare assignment rules: train the same model with each rule, or read finished runs.

# five rules, three seeds each; the same command continues where it was stopped
dynamic-atss compare --config-file configs/quickstart/own_data.yaml \\
  --rules atss dynamic_atss dynamic_atss,warmup=500 simota my_rule.py:BestOverlap,threshold=0.5 \\
  --seeds 0 1 2 --output output/rules --devices cuda:0 cuda:1 \\
  DATASETS.TRAIN coco:my/train.json:my/images DATASETS.TEST coco:my/val.json:my/images

# finished runs: grouped by the keys that differ; runs of one group differ by the seed
dynamic-atss compare output/one output/two output/three --output output/compared
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_atss import cli
from dynamic_atss.comparison.arguments import check_arguments, integers, split_at_key
from dynamic_atss.quoting import printable

if TYPE_CHECKING:
    from dynamic_atss.comparison.compare import Request

_LISTS: dict[str, tuple[list[str], str, str]] = {
    "rules": ([], "RULE", "NAME, or with arguments NAME,argument=value,argument=value"),
    "seeds": (["0", "1", "2"], "N", "each rule trains once with each seed; default: 0 1 2"),
    "devices": (["auto"], "DEVICE", "cpu, cuda:0, ...: one process for each time it is listed"),
}
_REFERENCE = "compare the others with this rule; default: the first"
_OUTPUT = "folder for the runs and for comparison.html, .md, .csv and .json"


def main() -> int:
    args = _arguments()

    # It imports torch, so mistakes in the command line are reported before.
    from dynamic_atss.comparison import compare
    from dynamic_atss.comparison.conclusions import conclusions
    from dynamic_atss.comparison.report import STEM, write_reports
    from dynamic_atss.comparison.run_facts import facts

    if args.rules:
        found, failures = compare.compare_rules(_request(args))
    else:
        failures = []
        found = compare.compare_runs(
            [Path(run) for run in args.opts],
            args.output,
            reference=args.reference,
            allow_code=args.allow_code,
        )
    for failure in failures:
        print(printable(f"failed: {failure.job.name}: {failure.reason}"))
    if found is not None:
        write_reports(args.output, found, facts(found, trained=bool(args.rules)))
        for line in [*found.notes, *conclusions(found)]:
            print(printable(line))
        print(f"written: {args.output / STEM}.html, .md, .csv, .json")
    return int(bool(failures))


def _request(args: argparse.Namespace) -> Request:
    from dynamic_atss.comparison.compare import Request

    return Request(
        args.config_file,
        args.rules,
        args.seeds,
        args.opts,
        args.devices,
        args.output,
        reference=args.reference,
        allow_code=args.allow_code,
    )


def _arguments() -> argparse.Namespace:
    parser = cli.config_parser(__doc__ or "")
    for name, (default, metavar, text) in _LISTS.items():
        parser.add_argument(f"--{name}", nargs="+", default=default, metavar=metavar, help=text)
    parser.add_argument("--reference", default="", metavar="RULE", help=_REFERENCE)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=_OUTPUT)
    args = cli.parse(parser)
    for name in _LISTS:
        words, overrides = split_at_key(getattr(args, name))
        setattr(args, name, words)
        args.opts = [*overrides, *args.opts]
    args.seeds = integers(args.seeds)
    check_arguments(args.config_file, args.rules, args.opts)
    return args
