"""Draws the README's first picture: one image under several rules, and the detections in it.

python benchmarks/readme_picture.py RUN --images voc:<bccd>:test --only NAME.jpg \
    --rules dynamic_atss fcos simota --output docs/images/rules_and_detections.jpg

RUN is the output folder of a training. The rules get the predictions of its newest checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from dynamic_atss import cli, load
from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.inspection.pictures import Picture, choose, open_images
from dynamic_atss.inspection.pictures import load as load_picture
from dynamic_atss.inspection.rules import ShownRule, rule_inputs
from dynamic_atss.inspection.source import Source, find_source, network
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.gather_targets import assign
from dynamic_atss.viz.assignment import draw_assignment
from dynamic_atss.viz.draw import contact_sheet, titled, write_image

SIDE = 480  # short side of a panel in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN", help="output folder of a training")
    parser.add_argument("--images", required=True, help="a data set, as in DATASETS.TEST")
    parser.add_argument("--only", required=True, help="name of the picture")
    parser.add_argument("--rules", nargs="+", default=["dynamic_atss", "fcos", "simota"])
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score that is shown")
    parser.add_argument("--columns", type=int, default=2, help="panels in a row")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    args = parser.parse_args()
    source = find_source(args.run, "", [], most=1)
    dataset = open_images(source.cfg, args.images)
    (place,) = choose(dataset, 1, [args.only])
    picture = load_picture(source.cfg, dataset, place)
    panels = [*assignments(source, picture, args.rules, dataset.class_names)]
    panels.append(detections(args.run, dataset.images / picture.name, args.threshold))
    write_image(args.output, contact_sheet(panels, args.columns))


@torch.no_grad()
def assignments(
    source: Source, picture: Picture, rules: list[str], class_names: list[str]
) -> Iterator[Tensor]:
    """Yields a panel (3, H, W) for each rule."""
    batch = picture.batch
    model, _ = network(source.cfg, source.steps[-1], class_names, averaged=False)
    output = model.head(model.backbone(model.normalize(batch.images, batch.sizes)))
    priors = model.priors(output.sizes, batch.images.device)
    for name in rules:
        shown = ShownRule(name, None, ASSIGNERS[name]())
        rule, read, coder = rule_inputs(model, shown, output)
        boxes = decode(coder, read.deltas, priors.boxes)
        found = assign(rule, read, boxes, priors, batch.gt, source.cfg.SOLVER.MAX_ITER)
        (drawn,) = draw_assignment(batch, priors, found, class_names, count=1, short_side=SIDE)
        yield titled(drawn, f"{name}: {int(found.positive.sum())} positives")


def detections(run: str, file: Path, threshold: float) -> Tensor:
    """Gives the panel (3, H, W) of the detections."""
    found = load(run)(file, threshold=threshold)
    return titled(found.drawn(SIDE), f"detections after training: {len(found)}")


if __name__ == "__main__":
    cli.run(main)
