"""Draw training images as the network gets them, with every augmentation of the configuration.

dynamic-atss show --config-file configs/quickstart/shapes_R_18.yaml --output sheet.png --count 12
dynamic-atss show --config-file output/mine/config.yaml --iteration 5000 INPUT.MOSAIC.PROB 1
"""

from __future__ import annotations

from pathlib import Path

from dynamic_atss import cli
from dynamic_atss.errors import UserError


def main() -> int:
    parser = cli.config_parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("sheet.png"), help="picture to write")
    parser.add_argument("--count", type=int, default=12, help="number of images on it")
    parser.add_argument("--columns", type=int, default=4, help="images in a row")
    parser.add_argument(
        "--iteration", type=int, default=0, help="show the images of this iteration"
    )
    args = cli.parse(parser)

    from dynamic_atss.builders import build_train_dataset, build_train_loader, check_config
    from dynamic_atss.viz.batches import draw_batch
    from dynamic_atss.viz.draw import contact_sheet, write_image

    cfg = cli.configuration(args)
    check_config(cfg)
    if args.count < 1 or args.columns < 1:
        raise UserError(f"--count {args.count} --columns {args.columns}: at least 1 is needed")
    if not 0 <= args.iteration < cfg.SOLVER.MAX_ITER:
        last = cfg.SOLVER.MAX_ITER - 1
        raise UserError(f"--iteration {args.iteration}: the training has iterations 0 to {last}")
    dataset = build_train_dataset(cfg)
    pictures = []
    for batch in build_train_loader(cfg, dataset, args.iteration):
        pictures += draw_batch(batch, dataset.class_names)
        if len(pictures) >= args.count:
            break
    write_image(args.output, contact_sheet(pictures[: args.count], args.columns))
    print(f"{min(len(pictures), args.count)} images from iteration {args.iteration}: {args.output}")
    return 0
