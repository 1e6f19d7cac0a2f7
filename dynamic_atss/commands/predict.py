"""Detect objects in pictures, folders and videos with a trained model, and draw them.

dynamic-atss predict --weights output/demo/run --input my/pictures
dynamic-atss predict --weights model_final.pth --input street.mp4 --threshold 0.5 --classes car
dynamic-atss predict --weights output/mine --input scene.png --tile 640 --output found

# a published checkpoint, whose file holds no configuration
dynamic-atss predict --weights file.pth --config-file configs/X.yaml --input a.jpg b.jpg
"""

from __future__ import annotations

import argparse

from dynamic_atss import cli
from dynamic_atss.errors import UserError


def main() -> int:
    args = _arguments()

    # It imports torch, so mistakes in the command line are reported before.
    from dynamic_atss.inference.predict import predict

    call_options = {
        "threshold": args.threshold,
        "classes": _parts("--classes", args.classes) or None,
        "batch": args.batch,
        "tile": args.tile,
    }
    if args.overlap is not None:
        call_options["overlap"] = args.overlap
    load_options = {
        "device": args.device,
        "config_file": args.config_file,
        "overrides": args.set,
        "class_names": _parts("--names", args.names),
        "allow_code": args.allow_code,
    }
    return predict(
        args.weights,
        args.input,
        args.output,
        load_options=load_options,
        call_options=call_options,
        pictures=not args.no_pictures,
        short_side=args.short_side,
        overwrite=args.overwrite,
    )


def _parts(option: str, text: str) -> list[str]:
    """Splits `text` at its commas. Raises UserError if a part is empty."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if "" in parts:
        raise UserError(f"{option} {text!r}: a name is empty; give A,B without blanks around")
    return parts


def _arguments() -> argparse.Namespace:
    parser = cli.parser_with_examples(__doc__)
    add = parser.add_argument
    add("--weights", required=True, metavar="RUN_OR_FILE", help="a run's folder or a checkpoint")
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="X",
        help="pictures, a folder, a video or a camera",
    )
    add(
        "--output",
        default="",
        metavar="DIR",
        help="folder to write; default: output/predict, -2, -3, ...",
    )
    add("--overwrite", action="store_true", help="replace files of the same names in --output")
    add("--no-pictures", action="store_true", help="write only detections.json and detections.csv")
    add("--short-side", type=int, default=1, help="enlarge smaller output pictures to this side")
    add("--threshold", type=float, default=0.3, help="lowest score, default 0.3; 0 keeps all")
    add("--classes", default="", metavar="A,B", help="keep only these: names or indices")
    add("--tile", type=int, default=0, metavar="PIXELS", help="side of the tiles of large pictures")
    add("--overlap", type=float, help="overlap of tiles as a fraction of their side; default 0.2")
    add("--batch", type=int, default=0, help="pictures at a time; 0: 8 on a GPU, 1 on a CPU")
    add("--device", default="auto", help="device: auto, cpu, cuda, cuda:1, ...")
    add("--config-file", default="", metavar="FILE", help="configuration, if the weights hold none")
    add("--names", default="", metavar="A,B", help="class names, if the weights hold none")
    add("--set", nargs="+", default=[], metavar="KEY VALUE", help="override configuration keys")
    add("--allow-code", action="store_true", help="run code that the configuration names")
    args = parser.parse_args()
    if args.overlap is not None and not args.tile:
        raise UserError(f"--overlap {args.overlap}: works only with tiles: add --tile PIXELS")
    return args
