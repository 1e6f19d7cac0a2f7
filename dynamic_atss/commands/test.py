"""Score a detector on each of DATASETS.TEST: MODEL.WEIGHT, or the last checkpoint of OUTPUT_DIR.

dynamic-atss test --config-file configs/X.yaml MODEL.WEIGHT file.pth
torchrun --nproc-per-node 8 -m dynamic_atss test --config-file configs/X.yaml MODEL.WEIGHT file.pth

# the last checkpoint of a run
dynamic-atss test --config-file output/mine/config.yaml

# other images than the run's
dynamic-atss test --config-file output/mine/config.yaml \\
  DATASETS.TEST coco:my/new.json:my/images
"""

from dynamic_atss import cli
from dynamic_atss.config.load import load_config


def main() -> int:
    parser = cli.config_parser(__doc__, cli.TEST_KEYS)
    args = cli.parse(parser)
    cfg = load_config(args.config_file, args.opts, allow_code=args.allow_code)

    from dynamic_atss.run import test  # imports torch: mistakes are told before

    return test(cfg, weight_given="MODEL.WEIGHT" in args.opts[::2])
