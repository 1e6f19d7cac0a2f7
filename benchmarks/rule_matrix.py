"""Tests each rule on each head: builds a tiny detector, trains a step and detects.

    python benchmarks/rule_matrix.py

Prints a table in Markdown. The cell of a refused pair has the reason.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.builders import build_head, build_model
from dynamic_atss.builders.heads import HEADS
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.types import Batch, GroundTruth

CLASSES = 3
BODY = Path(__file__).resolve().parents[1] / "examples" / "plain_body.py"
SETTINGS = {
    "MODEL.BACKBONE.CONV_BODY": f"{BODY}:PlainBody",
    "MODEL.BACKBONE.ARGS.width": 4,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 32,
}


def a_batch() -> Batch:
    """Makes two images of 64 x 64 pixels with three boxes."""
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[2.0, 4, 50, 58], [30, 10, 60, 34], [10, 20, 17, 29]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]))
    return Batch(images, torch.tensor([[64, 64], [60, 56]]), gt, (11, 12), ((64, 64), (60, 56)))


def detector(rule: str, head: str) -> Detector:
    """Builds the detector. Raises UserError for a pair that is refused."""
    section = f"MODEL.{head.upper()}"
    choice = {f"{section}_ON": True, f"{section}.NUM_CONVS": 1, "MODEL.ASSIGNER.NAME": rule}
    settings = [str(word) for pair in (choice | SETTINGS).items() for word in pair]
    return build_model(load_config(None, settings), CLASSES)


def step(model: Detector, batch: Batch) -> dict[str, float]:
    """Trains one step; returns the losses."""
    losses = model(batch).losses
    sum(losses.values()).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    return {name: float(loss.detach()) for name, loss in losses.items()}


def found(model: Detector, batch: Batch) -> int:
    """Counts the detections, with a score of 0.5 for every class."""
    nn.init.zeros_(model.head.cls_logits.bias)
    with torch.inference_mode():
        return sum(len(one) for one in model.eval()(batch))


def cell(rule: str, head: str) -> str:
    """Returns the text of a cell of the table."""
    torch.manual_seed(0)
    batch = a_batch()
    try:
        model = detector(rule, head)
        step(model, batch)
    except UserError as error:
        return f"no: {error}"
    found(model, batch)
    sized = build_head(load_config(None, [f"MODEL.{head.upper()}_ON", "True"])).priors().sized
    return "yes" if sized or not ASSIGNERS[rule].needs_size else "yes, points as 8 strides"


def table() -> str:
    lines = [["rule", *HEADS], ["---"] * (1 + len(HEADS))]
    lines += [[f"`{rule}`", *(cell(rule, head) for head in HEADS)] for rule in ASSIGNERS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
