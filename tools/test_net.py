"""Score a detector on the data sets of DATASETS.TEST, in COCO's or VOC's format.

python tools/test_net.py --config-file configs/X.yaml MODEL.WEIGHT file.pth [KEY VALUE ...]
torchrun --nproc-per-node 8 tools/test_net.py --config-file configs/X.yaml MODEL.WEIGHT file.pth
"""

from dynamic_atss import cli
from dynamic_atss.config.load import load_config


def main() -> int:
    parser = cli.config_parser("Score a detector. Without MODEL.WEIGHT: the last of OUTPUT_DIR.")
    args = cli.parse(parser)
    cfg = load_config(args.config_file, args.opts, allow_code=args.allow_code)

    from dynamic_atss.run import test  # imports torch: mistakes are told before

    return test(cfg, weight_given="MODEL.WEIGHT" in args.opts[::2])


if __name__ == "__main__":
    cli.run(main)
