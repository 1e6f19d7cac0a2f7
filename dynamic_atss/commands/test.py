"""Score a detector on each of DATASETS.TEST: MODEL.WEIGHT, or the last checkpoint of OUTPUT_DIR.

dynamic-atss test --weights output/mine
dynamic-atss test --config-file configs/X.yaml MODEL.WEIGHT file.pth
torchrun --nproc-per-node 8 -m dynamic_atss test --config-file configs/X.yaml MODEL.WEIGHT file.pth

# test the model on other images
dynamic-atss test --weights output/mine/model_0001000.pth \\
  DATASETS.TEST coco:my/new.json:my/images

# write a page about the errors; --report-only does so for an earlier test, without the model
dynamic-atss test --weights output/mine --report
"""

import argparse
from pathlib import Path

from yacs.config import CfgNode

from dynamic_atss import cli


def main() -> int:
    parser = cli.config_parser(__doc__, cli.TEST_KEYS)
    parser.add_argument("--weights", default="", metavar="RUN_OR_FILE", help="model to test")
    parser.add_argument("--report", action="store_true", help="write report.html and report.json")
    parser.add_argument("--report-only", action="store_true", help="report on an earlier test")
    args = cli.parse(parser)
    cfg = _configuration(args)

    # It imports torch, so mistakes in the command line are reported before.
    from dynamic_atss.run import report, test

    if args.report_only:
        return report(cfg)
    run = Path(args.weights).expanduser() if args.weights else None
    return test(
        cfg,
        weight_given="MODEL.WEIGHT" in args.opts[::2],
        run=run if run is not None and run.is_dir() else None,
        report=args.report,
    )


def _configuration(args: argparse.Namespace) -> CfgNode:
    """Gives the configuration of --config-file, else of the run or file that --weights names."""
    if not args.weights:
        return cli.configuration(args)
    run = Path(args.weights).expanduser()
    given = ("OUTPUT_DIR", str(run)) if run.is_dir() else ("MODEL.WEIGHT", args.weights)
    args.opts = [*given, *args.opts]
    if args.config_file:
        return cli.configuration(args)

    from dynamic_atss.inference.restore import recorded_config  # imports torch

    return recorded_config(args.weights, args.opts, allow_code=args.allow_code)
