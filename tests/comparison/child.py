"""Stands for a training: python child.py --config-file settings.yaml ...

Writes the files of a complete run after DELAY seconds (a variable of the environment). The rule
"topk" fails, and "paa" writes no scores.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

settings = yaml.safe_load(Path(sys.argv[2]).read_text())
folder = Path(settings["OUTPUT_DIR"])


def stop(number, frame):
    (folder / "signal").write_text(signal.Signals(number).name)
    raise SystemExit(128 + number)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
begin = time.time()
(folder / "pid").write_text(str(os.getpid()))
(folder / "metrics.jsonl").write_text('{"iteration": 3}\n{"iteration": 7, "loss": 1.0}\n{"iter')
seen = {k: os.environ.get(k) for k in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
time.sleep(float(os.environ.get("DELAY", "0")))
print("a line of the log")
if settings["MODEL"]["ASSIGNER"]["NAME"] == "topk":
    print("error: no luck\na warning at the end\n")
    raise SystemExit(2)
if settings["MODEL"]["ASSIGNER"]["NAME"] == "paa":
    raise SystemExit
scores = folder / "inference" / "boxes"
scores.mkdir(parents=True)
(scores / "coco_metrics.json").write_text("{}")
(folder / "model_final.pth").touch()
done = {"arguments": sys.argv[1:], "begin": begin, "end": time.time(), **seen}
(folder / "done.json").write_text(json.dumps(done | {"device": settings["MODEL"]["DEVICE"]}))
