"""The whole road in a few minutes: data, training, scores, pictures.

python tools/demo.py [--output output/demo] [KEY VALUE ...]
"""

import json
import sys
from pathlib import Path

from dynamic_atss import cli

QUICKSTART = Path(__file__).parents[1] / "configs/quickstart"
WEIGHT = "catalog://pip/efficientnet_lite0"
# A configuration, and the AP that its runs had. In so short a training the last digits of the
# arithmetic, which depend on the processor, the number of threads and the kernels, are worth that
# much.
PRETRAINED = QUICKSTART / "shapes_pretrained.yaml", (0.5, 0.54)
SCRATCH = QUICKSTART / "shapes_R_18.yaml", (0.37, 0.44)


def choose() -> tuple[Path, tuple[float, float]]:
    """From ImageNet weights where their package is installed, else from scratch, with a line."""
    from dynamic_atss.weights.pip import lacking_package

    lacking = lacking_package(WEIGHT)
    if lacking:
        print(f"from scratch: {lacking}", file=sys.stderr)
    return SCRATCH if lacking else PRETRAINED


def main() -> int:
    parser = cli.config_parser("Train Dynamic ATSS on generated images, score it, draw pictures.")
    parser.add_argument("--output", default="output/demo", help="folder; delete it to start afresh")
    args = cli.parse(parser)

    from dynamic_atss.builders import build_test_loaders
    from dynamic_atss.config.load import load_config
    from dynamic_atss.run import train
    from dynamic_atss.viz.pictures import draw_results

    output = Path(args.output)
    own = ["OUTPUT_DIR", str(output / "run"), "DATASETS.ROOT", str(output / "datasets")]
    config, (low, high) = choose()
    cfg = load_config(args.config_file or config, [*own, *args.opts], allow_code=args.allow_code)
    code = train(cfg, resume=True)  # goes on with a demo that was interrupted
    if code:
        return code
    name, loader = next(iter(build_test_loaders(cfg).items()))
    tested = output / "run/inference" / name
    overview = draw_results(loader.dataset, tested / "bbox.json", output / "pictures")
    print(f"detections beside the ground truth: {overview}")
    print(f"loss plot:                          {output / 'run/losses.png'}")
    print(f"COCO scores:                        {tested / 'coco_metrics.json'}")
    print(f"log, metrics and checkpoints:       {output / 'run'}")
    ap = json.loads((tested / "coco_metrics.json").read_text())["AP"]
    print(f"AP:                                 {ap:.3f} (of the demo as it is: {low} to {high})")
    return 0


if __name__ == "__main__":
    cli.run(main)
