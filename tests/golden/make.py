"""Makes this folder from the complete reference.

python tests/golden/make.py <reference folder>

It takes every case and every variant, and leaves out large parts that no test needs:
- targets of priors that are not positive (zeros here; they mean nothing in the release, either);
- gradients of the logits, except those of the positives and of every 64th (DSLA: 16th) prior;
- logits that torch's generator gives again: their seeds are here;
- arrays that no test reads, and those that need the photographs.
Integers are stored in 16 bits where they fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
# Found by trying: no document of the reference tells them. The numbers that are drawn before the
# logits (the boxes of DSLA's l0) come second.
SEEDS = {"batch01": (77, 0), "l0": (200, 80), "l2": (202, 0)}
Arrays = dict[str, np.ndarray]


def batch_logits(seed: int, priors: int) -> dict[str, Tensor]:
    """Draws logits (2, P, 80) and quality logits (2, P, 1) of `batch01` again."""
    draw = torch.Generator().manual_seed(seed)
    images = [
        (torch.randn(priors, 80, generator=draw) * 1.5 - 3, torch.randn(priors, 1, generator=draw))
        for _ in range(2)
    ]
    logits, quality = map(torch.stack, zip(*images, strict=True))
    return {"batch01_logits": logits, "batch01_centerness": quality}


def dsla_logits(case: str, seed: int, before: int, sizes: list[list[int]]) -> dict[str, Tensor]:
    """Draws the logits (2, 80, h, w) of each level of DSLA's `case` again."""
    draw = torch.Generator().manual_seed(seed)
    torch.rand(before, generator=draw)
    maps = [torch.randn(2, 80, *size, generator=draw) * 1.5 - 2 for size in sizes]
    return {f"{case}_cls{i}": logits for i, logits in enumerate(maps)}


def check_drawn(drawn: Mapping[str, Tensor], source: Arrays) -> None:
    """Raises ValueError if the logits that a reader will draw are not those of the reference."""
    for name, values in drawn.items():
        if not np.allclose(values, source[name], rtol=1e-5, atol=1e-5):
            raise ValueError(f"{name} is drawn in another way")


def small(array: np.ndarray) -> np.ndarray:
    """Converts numbers to 16 bits if they are whole and fit."""
    fits = array.size == 0 or abs(array).max() < 2**15
    whole = array.dtype.kind in "iu" or (array.ndim == 1 and (array == array.round()).all())
    return array.astype(np.int16) if fits and whole else array


def assignment(source: Arrays) -> Arrays:
    """Gives the content of an assign_*.npz without the parts that the text above leaves out."""
    kept: Arrays = {}
    for name, array in source.items():
        case, _, kind = name.partition("_")
        if case == "batch01" or kind in ("image_hw", "tensor_hw"):
            continue
        if kind.endswith("labels") or kind == "level_hw":
            array = small(array)
        elif kind.endswith("reg_targets") or kind == "iou_scores":
            variant = kind.removesuffix("reg_targets").removesuffix("iou_scores")
            labels = source.get(f"{case}_{variant}labels", source[f"{case}_labels"])
            array = np.where((labels > 0).reshape(-1, *[1] * (array.ndim - 1)), array, 0)
        kept[name] = array
    return kept | batch(source)


def batch(source: Arrays) -> Arrays:
    """Gives the loss of cases 0 and 1 together."""
    drawn = batch_logits(SEEDS["batch01"][0], source["batch01_logits"].shape[1])
    check_drawn(drawn, source)
    gradient = source["batch01_grad_logits"]
    positive = np.stack([source[f"case{i:02d}_labels"] > 0 for i in source["batch01_pair"]])
    at = rows(positive, 64)
    whole = ("losses_cls_reg_ctr", "box_regression", "grad_box_regression", "grad_centerness")
    kept = {name: source[f"batch01_{name}"] for name in whole} | {
        "pair": small(source["batch01_pair"]),
        "seed": np.int16(SEEDS["batch01"]),
        "grad_logits": gradient[at[:, 0], at[:, 1]],
        "grad_logits_rows": at,
    }
    return {f"batch01_{name}": array for name, array in kept.items()}


def rows(positive: np.ndarray, step: int) -> np.ndarray:
    """Lists (n, 2) image and prior of the positive ones (N, P) and of every `step`-th."""
    chosen = positive.copy()
    chosen[:, ::step] = True
    return small(np.stack(chosen.nonzero(), axis=1))


def dsla(source: Arrays) -> Arrays:
    """Gives dsla_targets.npz: complete targets, and gradients of some points of all levels."""
    unread = ("near_tie", "multi_gt", "_targets", "avg_factor", "bbox_weight", "_asis", "_seed")
    sizes = {case: source[f"{case}_featmap_sizes"].tolist() for case in ("l0", "l2")}
    drawn: dict[str, Tensor] = {}
    for case in sizes:
        drawn |= dsla_logits(case, *SEEDS[case], sizes[case])
    check_drawn(drawn, source)
    kept: Arrays = {f"{case}_seed": np.int16(SEEDS[case]) for case in sizes}
    for name, array in source.items():
        if name in ("settings", "strides", *drawn) or "_g_loss_" in name:
            continue
        if "pos_reg_targets" in name or not any(part in name for part in unread):
            kept[name] = small(array) if array.dtype.kind == "i" else array
    for case in sizes:
        for setting in source["settings"]:
            kept |= dsla_gradients(source, f"{case}_{setting}_g_loss")
    return kept


def dsla_gradients(source: Arrays, prefix: str) -> Arrays:
    """Gives the gradients of the distances (2, P, 4), and of the logits (n, 80) of some points."""
    boxes, logits = (flat(source, f"{prefix}_{kind}") for kind in ("bbox_reg", "cls_cls"))
    at = rows((boxes != 0).any(2), 16)
    chosen = logits[at[:, 0], at[:, 1]]
    return {
        f"{prefix}_bbox_reg": boxes,
        f"{prefix}_cls_cls": chosen,
        f"{prefix}_cls_cls_rows": at,
    }


def flat(source: Arrays, prefix: str) -> np.ndarray:
    """Joins the levels' maps (N, C, h, w) to (N, P, C)."""
    maps = [source[f"{prefix}{i}"] for i in range(5)]
    return np.concatenate([x.reshape(*x.shape[:2], -1).swapaxes(1, 2) for x in maps], axis=1)


def names(folder: Path) -> dict[str, object]:
    """Gives names and shapes of the checkpoints, and the optimizer's settings, by file name."""

    def read(path: str) -> dict:
        return json.loads((folder / path).read_text())

    train = read("train/dynamic_atss_R_50.json")
    steps = [{k: step[k] for k in ("iteration", "all_lrs")} for step in train["iterations"]]
    groups = "lr_factor_and_weight_decay_per_parameter"
    optimizer = {k: train[k] for k in ("base_lr", "momentum", groups)} | {"iterations": steps}
    logged = {k: v for k, v in read("dsla_state_dicts.json").items() if k.endswith("_as_logged")}
    return {
        "release_state_dicts.json": read("release_state_dicts.json"),
        "dsla_state_dicts.json": logged,
        "train/dynamic_atss_R_50.json": optimizer,
    }


def arrays(folder: Path) -> dict[str, Arrays]:
    """Gives the arrays by file name and by name."""

    def read(name: str) -> Arrays:
        with np.load(folder / name) as file:
            return dict(file)

    files = [f"assign_{rule}.npz" for rule in ("dynamic", "atss", "fcos")]
    made = {name: assignment(read(name)) for name in files}
    return made | {"dsla_targets.npz": dsla(read("dsla_targets.npz"))}


def main(folder: Path) -> None:
    for name, made in arrays(folder).items():
        np.savez_compressed(HERE / name, **made)
    for name, content in names(folder).items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
