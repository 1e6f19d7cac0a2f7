"""Train a detector.

python tools/train_net.py --config-file configs/X.yaml [--skip-test] [--resume] [KEY VALUE ...]
torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml
"""

from dynamic_atss import cli
from dynamic_atss.config.load import load_config


def main() -> int:
    parser = cli.config_parser("Train a detector and score it.")
    parser.add_argument("--skip-test", action="store_true", help="do not score the final model")
    parser.add_argument("--resume", action="store_true", help="go on with the run in OUTPUT_DIR")
    args = cli.parse(parser)
    cfg = load_config(args.config_file, args.opts, allow_code=args.allow_code)

    from dynamic_atss.run import train  # imports torch: mistakes are told before

    return train(cfg, resume=args.resume, test=not args.skip_test)


if __name__ == "__main__":
    cli.run(main)
