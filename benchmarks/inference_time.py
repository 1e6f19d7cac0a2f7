"""Compares the processor time per picture of `load`, of a test, and of an exported file.

    python benchmarks/inference_time.py RUN [--onnx FILE] [--pictures 40] [--threads 1]

RUN is trained, and its test set still exists. `load` reads a picture, detects and gives all boxes.
A test reads the same pictures with TEST.IMS_PER_BATCH 1 and no worker. The network in PyTorch and
the ONNX file get the same tensors, which are read and resized already. The two of a pair take
turns, picture by picture, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dynamic_atss import load
from dynamic_atss.builders import build_test_loaders
from dynamic_atss.export.checking import batch_of, inputs_of
from dynamic_atss.export.onnx_file import OnnxRunner
from dynamic_atss.inference.model import Model
from dynamic_atss.inference.restore import recorded_config

ONE_BY_ONE = ["TEST.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0"]
WARM_UP = 3  # pictures


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    model = load(args.run, device="cpu", allow_code=True)
    print("| what | processor ms per picture, median | beside it |\n|---|---:|---:|")
    _print("`load`, then `model(file)`", "a test", _pair_of_test(args, model))
    if args.onnx:
        _print("ONNX file", "the network in PyTorch", _pair_of_network(args, model))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a trained run")
    parser.add_argument("--onnx", type=Path, help="its exported file")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _print(ours: str, other: str, times: list[tuple[float, float]]) -> None:
    first, second = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    print(f"| {ours} | {first:.1f} | {second:.1f} ({other}; {first / second:.2f} x) |", flush=True)


def _pair_of_test(args: argparse.Namespace, model: Model) -> list[tuple[float, float]]:
    cfg = recorded_config(args.run, ONE_BY_ONE, allow_code=True)
    loader = next(iter(build_test_loaders(cfg).values()))
    data, batches, times = loader.dataset, iter(loader), []

    def test() -> None:
        with torch.inference_mode():
            model.restored.detector(next(batches))

    for index in range(min(args.pictures + WARM_UP, len(data))):
        file = data.path(index)
        times.append((_seconds(lambda file=file: model(file, threshold=0)), _seconds(test)))
    return times[WARM_UP:]


def _pair_of_network(args: argparse.Namespace, model: Model) -> list[tuple[float, float]]:
    cfg = recorded_config(args.run, ONE_BY_ONE, allow_code=True)
    data = next(iter(build_test_loaders(cfg).values())).dataset
    onnx, times = OnnxRunner(args.onnx), []
    for index in range(min(args.pictures + WARM_UP, len(data))):
        batch = batch_of(model.restored, [data.load(index)[0]])
        with torch.inference_mode():
            network = _seconds(lambda batch=batch: model.restored.detector(batch))
        times.append((_seconds(lambda batch=batch: onnx(*inputs_of(batch))), network))
    return times[WARM_UP:]


def _seconds(call: Callable[[], object]) -> float:
    """Gives the time of all threads of this process."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
