"""Converts a checkpoint between this project's format and the published ones.

dynamic-atss convert model_final.pth release.pth --to project --strip
dynamic-atss convert dsla_r50.pth ours.pth --to project
dynamic-atss convert ours.pth dsla_r50.pth --to mmdet
dynamic-atss convert ours.pth timm.pth --to backbone --body timm/convnext_atto
"""

from pathlib import Path

from dynamic_atss import cli

DESCRIPTION = """Convert a checkpoint. The weights stay the same to the bit.
project: this project's format; published: names of the maskrcnn-benchmark family (ATSS, FCOS,
RetinaNet); mmdet: names of mmdetection's DSLA; backbone: only the body, for load_state_dict of
torchvision (the weights are under "state_dict") or, with --body, of timm (the file is the weights).
"""

FORMATS = ("project", "published", "mmdet", "backbone")


def main() -> int:
    parser = cli.Parser(description=DESCRIPTION)
    parser.add_argument("src", metavar="SRC", help="file of any format that MODEL.WEIGHT takes")
    parser.add_argument("dst", metavar="DST", help="file to write")
    parser.add_argument("--to", required=True, choices=FORMATS)
    parser.add_argument("--body", metavar="timm/NAME", help="timm model that SRC is or contains")
    parser.add_argument("--strip", action="store_true", help="drop optimizer and training state")
    parser.add_argument("--force", action="store_true", help="drop weights that DST cannot hold")
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    args = parser.parse_args()

    from dynamic_atss.weights import convert_file, weight_file
    from dynamic_atss.weights.timm import timm_names

    body = timm_names(args.body) if args.body else None
    src, dst = weight_file(args.src, None), Path(args.dst).expanduser()
    converted = convert_file(
        src,
        dst,
        args.to,
        body=body,
        strip=args.strip,
        force=args.force,
        overwrite=args.overwrite,
    )
    print(converted.summary())
    sizes = [f"{path} {path.stat().st_size / 1e6:.1f} MB" for path in (src, dst)]
    print(" -> ".join(sizes))
    return 0
