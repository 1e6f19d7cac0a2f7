"""Train a detector and score it.

dynamic-atss train --config-file configs/dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml
torchrun --nproc-per-node 8 -m dynamic_atss train --config-file configs/atss/atss_R_50_FPN_1x.yaml

# train on your data, with a rule and a learning rate of your choice
dynamic-atss train --config-file configs/quickstart/own_data.yaml \\
  DATASETS.TRAIN coco:my/train.json:my/images DATASETS.TEST coco:my/val.json:my/images \\
  MODEL.ASSIGNER.NAME atss SOLVER.BASE_LR 0.001 OUTPUT_DIR output/mine

# continue a run that was interrupted
dynamic-atss train --config-file output/mine/config.yaml --resume
"""

from dynamic_atss import cli


def main() -> int:
    parser = cli.config_parser(__doc__, cli.TRAINING_KEYS)
    parser.add_argument("--skip-test", action="store_true", help="do not score the final model")
    parser.add_argument("--resume", action="store_true", help="continue the run in OUTPUT_DIR")
    args = cli.parse(parser)
    cfg = cli.configuration(args)

    # It imports torch, so mistakes in the command line are reported before.
    from dynamic_atss.run import train

    return train(cfg, resume=args.resume, test=not args.skip_test)
