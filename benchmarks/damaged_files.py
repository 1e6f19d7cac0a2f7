"""Tests each command that loads weights with damaged files: cut at every 5 %, or one bit flipped.

    python benchmarks/damaged_files.py [--flips 3000] [--doors load test convert checkpoint]
        [--formats project published legacy]

Outcomes:
`refused`: one line of error
`same`: loads the content of the intact file; the bit has no meaning, as in a date of the archive
`different`: loads other content without a message
`traceback`: any other end

Zip archives (checkpoints of this project, and files of torch.save since 1.6) have a checksum of
each part. Older streams (`legacy`) have none, so flips in their numbers pass.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynamic_atss.engine.checkpoint import load_checkpoint, save_checkpoint
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.backbones import ResNet
from dynamic_atss.modeling.fpn import FPN, BackboneWithFPN
from dynamic_atss.weights import identify, load_weights, read_file, to_published
from dynamic_atss.weights.convert import convert_file

CLASSES = ["cat", "dog", "cow"]
OUTCOMES = ("refused", "same", "different", "traceback")


@cache
def detector() -> nn.Module:
    """Makes a small detector whose state has a few hundred entries."""
    torch.manual_seed(0)
    body = ResNet(18, stem_out=4, res2_out=8)
    model, head = nn.Module(), nn.Module()
    for name, channels in (("cls_logits", len(CLASSES)), ("bbox_pred", 4), ("quality", 1)):
        head.add_module(name, nn.Conv2d(8, channels, 3))
    model.backbone = BackboneWithFPN(body, FPN(body.out_channels, 8))
    model.head = head
    return model


def write(kind: str, path: Path) -> None:
    """Writes an intact file of a format."""
    state = {name: torch.rand(value.shape) for name, value in detector().state_dict().items()}
    content = {"iteration": 7, "classes": CLASSES, "optimizer": {"lr": 0.1}}
    if kind == "project":
        save_checkpoint(path, {"model": state, **content})
    else:
        content |= {"model": to_published(state)}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "published")


def load(path: Path) -> Any:
    """Loads the file as MODEL.WEIGHT of a training."""
    model = detector()
    for value in model.state_dict().values():
        value.zero_()
    report = load_weights(model, path, class_names=CLASSES)
    return report.format, {name: value.clone() for name, value in model.state_dict().items()}


def test(path: Path) -> Any:
    """Loads the file as MODEL.WEIGHT of a test, with the classes of the file."""
    return identify(read_file(path), path).classes, load(path)


def convert(path: Path) -> Any:
    """Runs tools/convert_checkpoint.py, or remove_solver_states.py to strip the file."""
    target = path.with_name("converted.pth")
    intact = convert_file(path, target, "published", overwrite=True).content
    return intact, convert_file(path, target, "project", strip=True, overwrite=True).content


DOORS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "test": test,
    "convert": convert,
    "checkpoint": load_checkpoint,
}


def equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def outcome(door: Callable[[Path], Any], path: Path, intact: Any) -> str:
    """Returns one of OUTCOMES for the current file."""
    try:
        return "same" if equal(door(path), intact) else "different"
    except UserError as error:
        return "refused" if "\n" not in str(error) else "traceback"
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "traceback"


def damaged(data: bytes, flips: int) -> Iterator[tuple[str, bytes]]:
    """Yields ("cut" or "flip", damaged content)."""
    for percent in range(0, 100, 5):
        yield "cut", data[: len(data) * percent // 100]
    draw = random.Random(0)
    for _ in range(flips):
        place = draw.randrange(len(data))
        changed = bytes([data[place] ^ 1 << draw.randrange(8)])
        yield "flip", data[:place] + changed + data[place + 1 :]


def measure(kind: str, door: str, flips: int) -> dict[str, Counter[str]]:
    """Counts the outcomes by kind of damage."""
    found = {"cut": Counter[str](), "flip": Counter[str]()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model_0000007.pth")
        write(kind, path)
        data, look = path.read_bytes(), partial(outcome, DOORS[door], path)
        intact = DOORS[door](path)
        for damage, content in damaged(data, flips):
            path.write_bytes(content)
            found[damage][look(intact)] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=3000)
    parser.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS))
    kinds = ("project", "published", "legacy")
    parser.add_argument("--formats", nargs="+", choices=kinds, default=kinds)
    args = parser.parse_args()
    print(f"{'format':<10} {'door':<11} {'damage':<6}", *(f"{o:>10}" for o in OUTCOMES))
    for kind in args.formats:
        for door in args.doors:
            if (kind, door) in (("published", "checkpoint"), ("legacy", "checkpoint")):
                continue  # refused even when intact: no file of a run
            for damage, counts in measure(kind, door, args.flips).items():
                row = (f"{counts[o]:>10}" for o in OUTCOMES)
                print(f"{kind:<10} {door:<11} {damage:<6}", *row, flush=True)


if __name__ == "__main__":
    main()
