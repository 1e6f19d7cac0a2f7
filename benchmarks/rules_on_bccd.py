"""Every rule with the same network, seed, budget and order of images on BCCD: one table.

    python benchmarks/rules_on_bccd.py --data ../shared/data/bccd [--iterations 300] [--seeds 0]

Trains on `trainval` and scores `test`, with configs/quickstart/bccd_R_18.yaml (ResNet-18 from
scratch, the ATSS head, 8 images of 320 x 240 in an iteration), and nothing between the rows but the
rule with its defaults. Positives per image is a mean over the whole training, time per iteration a
median over it. AP is the mean over the seeds. `KEY VALUE ...` at the end goes to every run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = ("max_iou", "topk", "atss", "dynamic_atss", "fcos", "dsla", "task_aligned", "simota", "paa")
METRICS = ("AP", "AP50", "AP75", "APs")


def run(rule: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Trains and tests one rule; a run that is complete is read, one that was cut off goes on."""
    output = args.output / f"{rule}_{seed}"
    if not (output / "model_final.pth").is_file():
        output.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, *command(rule, seed, output, args)], cwd=ROOT, check=True)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines if "time" in line][1:]
    scores = json.loads(next(output.glob("inference/*/coco_metrics.json")).read_text())
    found = json.loads((output / "positives.json").read_text())
    return {**found, **{m: scores[m] for m in METRICS}, "time": statistics.median(times)}


def command(rule: str, seed: int, output: Path, args: argparse.Namespace) -> list[str]:
    def split(name: str) -> str:
        folder = args.data.resolve()
        return f"('coco:{folder}/coco/instances_{name}.json:{folder}/JPEGImages',)"

    settings = {
        "DATASETS.TRAIN": split("trainval"),
        "DATASETS.TEST": split("test"),
        "MODEL.ASSIGNER.NAME": f"{ROOT / 'benchmarks' / 'counting_rule.py'}:Counting",
        "MODEL.ASSIGNER.ARGS.rule": rule,
        "MODEL.ASSIGNER.ARGS.output": output / "positives.json",
        "SOLVER.MAX_ITER": args.iterations,
        "SOLVER.CHECKPOINT_PERIOD": args.iterations,
        "SOLVER.LOG_PERIOD": 10,
        "SEED": seed,
        "OUTPUT_DIR": output,
    }
    pairs = [str(x) for pair in settings.items() for x in pair]
    config = ROOT / "configs/quickstart/bccd_R_18.yaml"
    tool = ["tools/train_net.py", "--config-file", str(config)]
    return [*tool, "--resume", *pairs, *args.overrides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of BCCD, with coco/")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rules", nargs="+", default=RULES)
    parser.add_argument("--output", type=Path, default=ROOT / "output/rules_on_bccd")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    args = parser.parse_args()
    print("| rule | AP | AP50 | AP75 | APs | positives per image | s per iteration |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for rule in args.rules:
        results = [run(rule, seed, args) for seed in args.seeds]
        mean = {key: statistics.mean(r[key] for r in results) for key in results[0]}
        scores = " | ".join(f"{mean[m]:.3f}" for m in METRICS)
        print(
            f"| `{rule}` | {scores} | {mean['positives_per_image']:.1f} | {mean['time']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
