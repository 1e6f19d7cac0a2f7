"""Tests that two gloo processes train as one does, and how they end."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers_run import (
    ROOT,
    TORCHRUN,
    call_tool,
    load_module,
    read_lines,
    run_program,
    run_tool,
    start_tool,
    write_config,
)

from dynamic_atss.builders import build_train_dataset
from dynamic_atss.config.load import load_config
from dynamic_atss.data.samplers import TrainingSampler, aspect_groups

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

LAUNCH = ["-m", "torch.distributed.launch", "--standalone", "--nproc-per-node", "2"]
QUIET = [str(ROOT / "tools" / "launch.py"), *TORCHRUN[2:]]
FROZEN = ["MODEL.RESNETS.NORM", "FrozenBN", "INPUT.MIN_SIZE_TRAIN", "(96,)"]
GROUP_NORM = ["MODEL.RESNETS.NORM", "GN", "INPUT.MIN_SIZE_TRAIN", "(96,)"]
GROUP_NORM += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 32, "MODEL.RESNETS.RES2_OUT_CHANNELS", 128]
EVERY = ["SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 5]

kill_and_resume = load_module("benchmarks/kill_and_resume.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


def seen_by(rank: int, config, *overrides: str) -> list[list[int]]:
    """Lists the indices of the images on which one of two ranks trains, by iteration."""
    dataset = build_train_dataset(load_config(config[1], [*config[2:], *overrides]))
    sampler = TrainingSampler(
        aspect_groups(dataset.sizes),
        len(dataset),
        4,
        0,
        rank=rank,
        world_size=2,
        start=0,
        stop=5,
    )
    return [[index for index, _ in batch] for batch in sampler]


def without_boxes(config, folder: Path) -> list[str]:
    """Makes a training set without boxes in the first four batches of the second rank."""
    root = Path(config[3])
    content = json.loads((root / "shapes/annotations/train.json").read_text())
    ids = sorted(image["id"] for image in content["images"])
    emptied = {ids[i] for batch in seen_by(1, config)[:4] for i in batch}
    assert len(emptied) == 8
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in emptied]
    (folder / "half.json").write_text(json.dumps(content))
    name = f"coco:{folder / 'half.json'}:{root / 'shapes/train'}"
    return ["DATASETS.TRAIN", f"({name!r},)", "DATASETS.KEEP_EMPTY", "True"]


def check_same_training(one: Path, two: Path) -> None:
    first, second = read_lines(one), read_lines(two)
    assert len(first) == len(second) == 5
    for a, b in zip(first, second, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    for name in ("model_0000001.pth", "model_final.pth"):
        a, b = (torch.load(run / name, weights_only=True) for run in (one, two))
        pairs = [(a["model"][key], b["model"][key]) for key in a["model"]]
        # After the first iteration the momentum is the gradient, with the weight decay.
        states = zip(*(x["optimizer"]["state"].values() for x in (a, b)), strict=True)
        pairs += [(x["momentum_buffer"], y["momentum_buffer"]) for x, y in states]
        for pair in pairs:
            x, y = (value.float() for value in pair)  # counters are integers
            # The minimum is needed as gradients of biases before a GroupNorm are only noise.
            assert (x - y).norm() <= 1e-4 * x.norm().clamp(min=1e-3)


def test_a_rank_without_objects(config, tmp_path, monkeypatch):
    data = without_boxes(config, tmp_path)
    dataset = build_train_dataset(load_config(config[1], [*config[2:], *data]))
    counts = [
        [sum(len(dataset.ground_truth(i)) for i in batch) for batch in seen_by(rank, config, *data)]
        for rank in (0, 1)
    ]
    assert all(counts[0][:4]) and not any(counts[1][:4])
    args = [*config, *FROZEN, *data, *EVERY, "--skip-test", "OUTPUT_DIR"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert call_tool(monkeypatch, "train_net", [*args, one]) == 0
    ended = run_tool("train_net", [*args, two], TORCHRUN)
    assert ended.returncode == 0, ended.stderr
    check_same_training(one, two)


def test_torch_distributed_launch_and_the_test(config, tmp_path, monkeypatch):
    """Detections are the same to the last bit if each process tests the same batches."""
    args = [*config, *GROUP_NORM, *EVERY, "MODEL.ATSS.INFERENCE_TH", 0.001]
    one, two, test = tmp_path / "one", tmp_path / "two", tmp_path / "test"
    assert (
        call_tool(monkeypatch, "train_net", [*args, "OUTPUT_DIR", one, "TEST.IMS_PER_BATCH", 2])
        == 0
    )
    ended = run_tool("train_net", [*args, "--skip-test", "OUTPUT_DIR", two], LAUNCH)
    assert ended.returncode == 0, ended.stderr
    tested = (one / "metrics.jsonl").read_text().splitlines()
    (one / "metrics.jsonl").write_text("\n".join(tested[:-1]))
    check_same_training(one, two)

    args += ["MODEL.WEIGHT", one / "model_final.pth", "TEST.IMS_PER_BATCH", 4, "OUTPUT_DIR", test]
    ended = run_tool("test_net", args, LAUNCH)
    assert ended.returncode == 0, ended.stderr
    for name in ("bbox.json", "coco_metrics.json"):
        path = Path("inference/shapes_val") / name
        assert json.loads((test / path).read_text()) == json.loads((one / path).read_text())
    assert len(json.loads((test / "inference/shapes_val/bbox.json").read_text())) > 100


def test_an_error_of_one_rank_ends_all(config, tmp_path):
    """The second rank reads a damaged image in its third iteration."""
    source = Path(config[3]) / "shapes"
    content = json.loads((source / "annotations/train.json").read_text())
    names = [i["file_name"] for i in sorted(content["images"], key=lambda i: i["id"])]
    bad = names[seen_by(1, config)[2][0]]
    # The files of a set of the catalog are not checked before the training.
    shutil.copytree(source, tmp_path / "datasets/shapes")
    broken = tmp_path / "datasets/shapes/train" / bad
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    args = [*config, *FROZEN, *EVERY, "DATASETS.ROOT", tmp_path / "datasets"]
    out = tmp_path / "run"
    # The timeout ends a process that would wait forever for the other.
    ended = run_tool("train_net", [*args, "--skip-test", "OUTPUT_DIR", out], TORCHRUN, timeout=300)
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if "error: " in line and bad in line]
    assert len(lines) == 1
    assert not (out / "model_final.pth").exists() and (out / "model_0000002.pth").exists()


def test_a_refused_folder_is_reported_once(config, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    ended = run_tool("train_net", [*config, "OUTPUT_DIR", tmp_path], TORCHRUN)
    assert ended.returncode != 0
    errors = [x for x in ended.stderr.splitlines() if "error: " in x and "--resume" in x]
    assert len(errors) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


ONE_RANK = """
import os
from dynamic_atss.losses import giou_loss

def at_the_import(raw, decoded, targets, weight, priors):
    ...

if os.environ["LOCAL_RANK"] == "1":
    del at_the_import
calls = []

def in_a_step(raw, decoded, targets, weight, priors):
    calls.append(1)
    wrong = os.environ["LOCAL_RANK"] == "1" and len(calls) == 2
    return [] if wrong else {"loss_reg": giou_loss(decoded, targets, weight)}
"""
MISTAKES = {  # with a part of the message; both processes make the first mistake
    "NO.KEY": "unknown key NO.KEY",
    "at_the_import": "defines no class or function at_the_import",
    "in_a_step": "the box loss returns a list",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_once(config, tmp_path, mistake):
    (tmp_path / "loss.py").write_text(ONE_RANK)
    loss = ["MODEL.BOX_LOSS", f"{tmp_path / 'loss.py'}:{mistake}"]
    wrong = [mistake, 1] if mistake == "NO.KEY" else loss
    args = [*config, *wrong, "OUTPUT_DIR", tmp_path / "run"]
    ended = run_tool("train_net", args, QUIET)
    assert ended.returncode == 2
    (line,) = [x for x in ended.stderr.splitlines() if " INFO " not in x]
    assert line.startswith("error: ") and MISTAKES[mistake] in line


COUNTING = """
import os
from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.types import Assignment

class FirstStep(ATSS):
    first = 1

    def __call__(self, priors, gt, predictions):
        found = super().__call__(priors, gt, predictions)
        differs = os.environ["LOCAL_RANK"] == "1" and predictions.iteration + 1 >= self.first
        name = "mine" if differs else "ours"
        return Assignment(found.gt_index, found.quality, metrics={name: len(gt)})

class ThirdStep(FirstStep):
    first = 3
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FirstStep", "process 1 differs from process 0: without 'ours', with 'mine'; "),
        ("ThirdStep", "this step differs from the first: without 'ours', with 'mine'; "),
    ],
)
def test_metrics_that_differ_between_processes(config, tmp_path, name, message):
    """No process waits forever for such a metric, and none adds it to another one."""
    (tmp_path / "rule.py").write_text(COUNTING)
    args = [*config, *EVERY, "MODEL.ASSIGNER.NAME", f"{tmp_path / 'rule.py'}:{name}"]
    ended = run_tool("train_net", [*args, "OUTPUT_DIR", tmp_path / "run"], QUIET)
    assert ended.returncode == 2
    (line,) = [x for x in ended.stderr.splitlines() if x.startswith("error: ")]
    assert line.startswith(f"error: {message}losses and metrics must have the same names")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("launcher", ["run", "launch"])
def test_pytorchs_launchers_show_a_mistake_once_above_their_traceback(config, launcher):
    ended = run_tool("train_net", [*config, "NO.KEY", 1], {"run": TORCHRUN}.get(launcher, LAUNCH))
    assert ended.returncode == 1  # as after any failure
    assert ended.stderr.count("error: command line: unknown key NO.KEY") == 1
    assert ended.stderr.count("Traceback") == 1


def test_a_crash_of_the_users_code_is_one_line_and_its_traceback_in_the_log(config, tmp_path):
    (tmp_path / "loss.py").write_text(ONE_RANK.replace("return []", "return 1 / 0"))
    args = [*config, "MODEL.BOX_LOSS", f"{tmp_path / 'loss.py'}:in_a_step"]
    ended = run_tool("train_net", [*args, "OUTPUT_DIR", tmp_path / "run"], QUIET)
    assert ended.returncode == 2 and ended.stderr.count("error: ") == 1
    assert "loss.py:" in ended.stderr and "Traceback" not in ended.stderr


PATIENT = """
import datetime, time
import torch.distributed as dist
from dynamic_atss.engine import distributed
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=2))
distributed.on_rank_0(lambda: time.sleep(6))
print("continued", flush=True)
distributed.shut_down()
"""


def test_the_others_wait_for_rank_0_longer_than_the_timeout_of_collectives(tmp_path):
    (tmp_path / "patient.py").write_text(PATIENT)
    ended = run_program([*TORCHRUN, str(tmp_path / "patient.py")], timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("continued") == 2


SLOW_SCORES = """
import time
from dynamic_atss.evaluation import scoring_task
from dynamic_atss.evaluation.scoring_process import ScoringProcess
from dynamic_atss.losses import giou_loss

fast, begin = scoring_task.evaluate_coco, ScoringProcess.__init__

def slow(*args, **options):
    time.sleep(6)
    return fast(*args, **options)

def killed(self, task):
    begin(self, task)
    self._process.kill()

scoring_task.evaluate_coco, ScoringProcess.__init__ = slow, killed

def box_loss(raw, decoded, targets, weight, priors):
    return {"loss_reg": giou_loss(decoded, targets, weight)}
"""


@pytest.mark.parametrize("asynchronous", [False, True])
def test_scores_may_take_longer_than_an_iteration(config, tmp_path, asynchronous):
    """Rank 0 scores while the other waits, in a test during the training and in the last one.

    With TEST.ASYNC it does so after the process that had to score was killed.
    """
    (tmp_path / "loss.py").write_text(SLOW_SCORES)
    out = tmp_path / "run"
    slow = ["MODEL.BOX_LOSS", f"{tmp_path / 'loss.py'}:box_loss", "SOLVER.TIMEOUT", 4]
    slow += ["TEST.ASYNC", asynchronous, "SOLVER.LOG_PERIOD", 1]
    args = [*config, *slow, "SOLVER.MAX_ITER", 2, "TEST.PERIOD", 1, "OUTPUT_DIR", out]
    ended = run_tool("train_net", args, QUIET)
    assert ended.returncode == 0, ended.stderr
    assert (out / "inference/shapes_val/coco_metrics.json").is_file()
    assert ("SIGKILL ended it" in (out / "log.txt").read_text()) == asynchronous


ON_ONE_MACHINE = """
import os
from dynamic_atss.data.coco import CocoDataset

class Half(CocoDataset):
    @classmethod
    def parts_of(cls, rest):
        annotations, folder = super().parts_of(rest)
        return annotations, "/lost" if os.environ["LOCAL_RANK"] == "1" else folder
"""


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_a_data_set_that_one_machine_lacks(config, tmp_path, split):
    (tmp_path / "half.py").write_text(ON_ONE_MACHINE)
    shapes = Path(config[3]) / "shapes"
    name = f"{tmp_path / 'half.py'}:Half:{shapes}/annotations/train.json:{shapes}/train"
    args = [*config, f"DATASETS.{split}", f"({name!r},)", "OUTPUT_DIR", tmp_path / "run"]
    ended = run_tool("train_net", args, QUIET)
    assert ended.returncode == 2, ended.stderr
    (line,) = [x for x in ended.stderr.splitlines() if x.startswith("error: ")]
    assert "/lost: no such image folder" in line and "Traceback" not in ended.stderr


def test_one_process_checks_the_data_and_reports_faults(config, tmp_path):
    folder = tmp_path / "shapes"
    shutil.copytree(Path(config[3]) / "shapes", folder)
    sorted((folder / "val").iterdir())[0].write_bytes(b"")
    sets = ["DATASETS.TEST", f"('coco:{folder}/annotations/val.json:{folder}/val',)"]
    ended = run_tool("train_net", [*config, *sets, "OUTPUT_DIR", tmp_path / "run"], TORCHRUN)
    assert ended.returncode != 0
    assert ended.stderr.count("the image cannot be decoded") == 1
    ended = run_tool(
        "train_net", [*config, "--skip-test", "OUTPUT_DIR", tmp_path / "good"], TORCHRUN
    )
    log = (tmp_path / "good/log.txt").read_text()
    assert log.count("survey: ") == 2  # a box without a prior, and the totals


def test_sigterm_to_the_launcher_saves_and_the_resumed_run_is_the_same(config, tmp_path):
    args = [*config, *FROZEN, "SOLVER.MAX_ITER", 25, "SOLVER.CHECKPOINT_PERIOD", 20, "--skip-test"]
    args += ["SOLVER.LOG_PERIOD", 1]
    out, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    with open(tmp_path / "log", "w") as log:
        process = start_tool(
            "train_net", [*args, "OUTPUT_DIR", out], TORCHRUN, stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + 300  # for a launcher that hangs
            while not (out / "metrics.jsonl").is_file() or len(read_lines(out)) < 3:
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(timeout=300) != 0
        finally:
            process.kill()
            process.wait()
    assert "SIGTERM: iteration " in (out / "log.txt").read_text()
    assert (out / "last_checkpoint").read_text() != "model_final.pth"
    for folder in (out, uninterrupted):
        ended = run_tool("train_net", [*args, "--resume", "OUTPUT_DIR", folder], TORCHRUN)
        assert ended.returncode == 0, ended.stderr
    assert kill_and_resume.differences(uninterrupted, out) == []


def test_the_model_tested_at_the_end_is_the_one_saved(config, tmp_path, monkeypatch):
    """Until the test, batch norm's statistics and their average differ between processes."""
    low = ["MODEL.ATSS.INFERENCE_TH", 0.001]  # so that there are detections to compare
    args = [*config, "SOLVER.EMA_DECAY", 0.5, "OUTPUT_DIR", tmp_path / "run", *low]
    done = run_tool("train_net", args, TORCHRUN)
    assert done.returncode == 0, done.stderr
    weight = ["MODEL.WEIGHT", tmp_path / "run/model_final.pth", "TEST.IMS_PER_BATCH", 2]
    again = [*config, *weight, "OUTPUT_DIR", tmp_path / "again", *low]
    assert call_tool(monkeypatch, "test_net", again) == 0
    there, here = (
        json.loads((tmp_path / run / "inference/shapes_val/bbox.json").read_text())
        for run in ("run", "again")
    )
    assert there == here and len(here) > 0


def test_all_processes_end_early_together(config, tmp_path):
    """Only rank 0 has the scores. Each test has AP 0, so the first is the best."""
    watch = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "TEST.PATIENCE", 2, "SOLVER.MAX_ITER", 12]
    args = [*config, *watch, "SOLVER.KEEP_CHECKPOINTS", 1, "OUTPUT_DIR", tmp_path]
    done = run_tool("train_net", args, TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert "the run ends at iteration 6" in (tmp_path / "log.txt").read_text()
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 6
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 2
    names = sorted(p.name for p in tmp_path.glob("model_*.pth"))
    assert names == ["model_0000006.pth", "model_best.pth", "model_final.pth"]
    again = run_tool("train_net", [*args, "--resume"], TORCHRUN)
    assert again.returncode == 0, again.stderr


def test_an_undefined_metric_is_reported_once(config, tmp_path):
    watch = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "VOC_mAP", "OUTPUT_DIR", tmp_path]
    ended = run_tool("train_net", [*config, *watch], TORCHRUN)
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if "TEST.BEST_METRIC 'VOC_mAP'" in line]
    assert len(lines) == 1 and not list(tmp_path.glob("*.pth"))
