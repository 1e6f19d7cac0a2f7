"""Write a trained detector to one file that runs without this package: images in, boxes out.

dynamic-atss export --weights output/demo/run --format onnx --output model.onnx
dynamic-atss export --weights model_final.pth --format torch --output model.pt2
dynamic-atss export --weights output/mine --format aoti --device cuda --output model.pt2 \\
  --check-images my/pictures
"""

from __future__ import annotations

import argparse

from dynamic_atss import cli
from dynamic_atss.export.formats import PACKAGES, check_packages


def main() -> int:
    args = _arguments()
    check_packages(args.format)

    # It imports torch, so mistakes in the command line are reported before.
    from dynamic_atss.export.run import export

    loading = {
        "device": args.device,
        "config_file": args.config_file,
        "overrides": args.set,
        "class_names": args.names.split(",") if args.names else [],
        "allow_code": args.allow_code,
    }
    report = export(
        args.weights,
        args.output,
        args.format,
        check_images=args.check_images,
        loading=loading,
    )
    print(report)
    return 0


def _arguments() -> argparse.Namespace:
    parser = cli.parser_with_examples(__doc__)
    add = parser.add_argument
    add("--weights", required=True, metavar="RUN_OR_FILE", help="a run's folder or a checkpoint")
    add("--format", required=True, choices=PACKAGES, help="onnx, torch (torch.export) or aoti")
    add("--output", required=True, metavar="FILE", help="the file to write")
    add(
        "--check-images",
        default="",
        metavar="FOLDER",
        help="pictures to compare on; default: those of the test set",
    )
    add("--device", default="cpu", help="where a torch or aoti file will run: cpu or cuda")
    add("--config-file", default="", metavar="FILE", help="configuration, if the weights hold none")
    add("--names", default="", metavar="A,B", help="class names, if the weights hold none")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="override configuration keys")
    add("--allow-code", action="store_true", help="run code that the configuration names")
    return parser.parse_args()
