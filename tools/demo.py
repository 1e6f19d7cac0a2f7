"""Makes data, trains on them, scores the model and draws pictures, in a few minutes.

python tools/demo.py [--output output/demo] [KEY VALUE ...]
"""

import json
import sys
from pathlib import Path

from dynamic_atss import cli

QUICKSTART = Path(__file__).parents[1] / "configs/quickstart"
WEIGHT = "catalog://pip/efficientnet_lite0"
# Each configuration with the lowest and highest AP of its runs. The rounding of the arithmetic
# depends on the processor, the number of threads and the kernels; in so short a training it moves
# the AP by that much.
PRETRAINED = QUICKSTART / "shapes_pretrained.yaml", (0.5, 0.54)
SCRATCH = QUICKSTART / "shapes_R_18.yaml", (0.37, 0.44)


def choose() -> tuple[Path, tuple[float, float]]:
    """Chooses the configuration, and prints if it trains from scratch.

    It is the one with ImageNet weights if their package is installed, else the one from scratch.
    """
    from dynamic_atss.weights.pip import lacking_package

    lacking = lacking_package(WEIGHT)
    if lacking:
        print(f"from scratch: {lacking}", file=sys.stderr)
    return SCRATCH if lacking else PRETRAINED


def main() -> int:
    parser = cli.config_parser("Train Dynamic ATSS on generated images, score it, draw pictures.")
    parser.add_argument(
        "--output", default="output/demo", help="folder to write; delete it to start afresh"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue a stopped demo, as is always done"
    )
    args = cli.parse(parser)

    from dynamic_atss.builders import build_test_loaders
    from dynamic_atss.config.load import load_config
    from dynamic_atss.run import train
    from dynamic_atss.viz.pictures import draw_results

    output = Path(args.output)
    folders = ["OUTPUT_DIR", str(output / "run"), "DATASETS.ROOT", str(output / "datasets")]
    config, (low, high) = choose()
    overrides = [*folders, *args.opts]
    cfg = load_config(args.config_file or config, overrides, allow_code=args.allow_code)
    code = train(cfg, resume=True)  # continues a demo that was interrupted
    if code:
        return code
    name, loader = next(iter(build_test_loaders(cfg).items()))
    results = output / "run/inference" / name
    overview = draw_results(loader.dataset, results / "bbox.json", output / "pictures")
    print(f"detections next to the ground truth: {overview}")
    print(f"loss plot:                           {output / 'run/losses.png'}")
    print(f"COCO scores:                         {results / 'coco_metrics.json'}")
    print(f"log, metrics and checkpoints:        {output / 'run'}")
    ap = json.loads((results / "coco_metrics.json").read_text())["AP"]
    # Other settings, such as fewer iterations, give another AP.
    wanted = "" if args.config_file or args.opts else f" (expected: {low} to {high})"
    print(f"AP:                                  {ap:.3f}{wanted}")
    return 0


if __name__ == "__main__":
    cli.run(main)
