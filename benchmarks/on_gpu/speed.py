"""Lists the stages that measure speed, most important first.

Those of FLOAT32 are a group of their own, so that the others fit nine minutes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from on_gpu import summary
from on_gpu.runner import Stage

if TYPE_CHECKING:
    from on_gpu.table import Place

ROOT = Path(__file__).resolve().parents[2]  # `machine` would import torch, which may be missing
NAMES = (
    *("detectors-bfloat16", "detectors-compiled", "stages", "focal", "nms", "rules", "ladder"),
    *("detectors-largest", "decoding", "assignment", "scoring"),
)
FLOAT32 = ("detectors-float32", "detectors-float32-compiled", "detectors-largest-float32")
COMPILED = ("focal", "nms")  # need the kernels
RULES = ("dynamic_atss", "atss", "max_iou", "fcos")  # beside their dense forms


def stages(place: Place) -> list[Stage]:
    """Returns all stages of speed. On a CPU, tiny sizes only show that they run.

    The ladder comes after the compiled detectors, whose compiled kernels PyTorch keeps on disk.
    All cores may be used on a GPU, because the host only starts kernels.
    """
    order = (*NAMES, *FLOAT32)
    made = [*_detectors(place), *_parts(place)]
    return sorted(made, key=lambda stage: order.index(stage.name))


def _detectors(place: Place) -> list[Stage]:
    gpu = place.on_gpu
    # At 64 x 64 P6 has one pixel, for which PyTorch 2.14 gives a NaN on a CPU in bfloat16: the
    # gradient of the weights of a contiguous 3 x 3 convolution of stride 2.
    size = ("--size", "800", "1344", "--batch", "16") if gpu else ("--size", "96", "96")
    large = (*size, "--seconds", "1") if gpu else (*size, "--seconds", "0", "--quick")
    bfloat16, float32 = (*large, "--dtype", "bfloat16"), (*large, "--dtype", "float32")
    eager = ("plain", "graphs") if gpu else ("plain",)

    def forms(name: str, limit: float, options: tuple[str, ...], *of: str) -> Stage:
        return _script(place, name, "detectors", limit, *options, "--forms", *of)

    def compiled(name: str, options: tuple[str, ...]) -> Stage:
        # On a CPU the compiler takes minutes. train-compiled tests the code with another backend.
        made = forms(name, 190, options, "compiled", "compiled+graphs")
        return replace(made, min_left=60, absent="" if gpu else "on a GPU only")

    return [
        forms("detectors-bfloat16", 120, bfloat16, *eager),
        compiled("detectors-compiled", bfloat16),
        _script(place, "stages", "stages", 60, *bfloat16),
        _script(place, "ladder", "ladder", 130, *size, "--seconds", "0.5" if gpu else "0"),
        _script(place, "detectors-largest", "detectors", 80, *bfloat16, "--largest"),
        forms("detectors-float32", 120, float32, *eager),
        compiled("detectors-float32-compiled", float32),
        _script(place, "detectors-largest-float32", "detectors", 100, *float32, "--largest"),
    ]


def _parts(place: Place) -> list[Stage]:
    gpu = place.on_gpu
    seconds, short = (("--seconds", "0.5" if gpu else "0"), ("--seconds", "0.2" if gpu else "0"))
    focal = () if gpu else ("--batch", "1", "--priors", "200")
    nms = () if gpu else ("--candidates", "100", "--batch", "1")
    boxes = ("--boxes", "10", "100", "1000") if gpu else ("--boxes", "3", "5")
    assignment = ("--boxes", "10", "100") if gpu else ("--boxes", "3")
    assignment += ("--batch", "1", "--rules", *RULES)
    decoding = ("--seconds", "3") if gpu else ("--seconds", "0", "--quick", "--short", "80")
    scoring = ("--rounds", "2", "--stretch", "6") if gpu else ("--quick",)
    return [
        _script(place, "focal", "focal", 60, *seconds, *focal),
        _script(place, "nms", "nms", 60, *seconds, *nms),
        _script(place, "rules", "rules", 80, *short, *boxes, "--batch", "16" if gpu else "1"),
        _script(place, "decoding", "decoding", 60, *decoding),
        _script(place, "assignment", "assignment", 60, *seconds, *assignment),
        _script(place, "scoring", "background_scoring", 100, *scoring),
    ]


def _script(place: Place, name: str, file: str, limit: float, *options: str) -> Stage:
    """Makes the stage of a benchmark, which writes its rows to a JSON file."""
    found = place.scratch / f"{name}.json"
    script = ("-m", "on_gpu.rules") if file == "rules" else (str(ROOT / f"benchmarks/{file}.py"),)
    return Stage(
        name,
        (sys.executable, *script, "--json", str(found), "--device", place.device, *options),
        limit,
        min_left=20,
        needs=("build",) if file in COMPILED else (),
        found=found,
        summarize=summary.of_rows,
    )
