"""Tests complete runs with iterations that are not finite, or that do not fit into the memory."""

import contextlib
import os
import sys

import pytest
import torch
from helpers_run import LAUNCH, call_tool, load_module, read_lines, run_tool, write_config

pytestmark = pytest.mark.slow

kill_and_resume = load_module("benchmarks/kill_and_resume.py")

# The iterations in BAD are not finite: always, or (ONCE) the first time.
CODE = """
import os, resource
from pathlib import Path
import torch
from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.losses import giou_loss

class Watched(ATSS):
    def __call__(self, priors, gt, predictions):
        os.environ["NOW"] = str(predictions.iteration + 1)
        return super().__call__(priors, gt, predictions)

def bad():
    now = os.environ["NOW"]
    mark = Path(os.environ["MARK"] + now)
    done = os.environ.get("ONCE") and mark.exists()
    if now not in os.environ["BAD"].split() or os.environ.get("RANK", "1") != "1" or done:
        return False
    mark.touch()
    return True

def loss(raw, decoded, targets, weight, priors):
    factor = float("nan") if bad() else 1.0
    return {"loss_reg": factor * giou_loss(decoded, targets, weight)}

def gradient(raw, decoded, targets, weight, priors):
    found = giou_loss(decoded, targets, weight)
    zero = (0 * decoded).sum()
    return {"loss_reg": found + zero.sqrt() if bad() else found}  # of sqrt at 0: infinite

def full(raw, decoded, targets, weight, priors):
    if bad():
        torch.empty(2**46, dtype=torch.uint8)
    return {"loss_reg": giou_loss(decoded, targets, weight)}

def limited(raw, decoded, targets, weight, priors):
    if bad():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        held = [torch.ones(2**18) for _ in range(1000)]
    return {"loss_reg": giou_loss(decoded, targets, weight)}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return [*write_config(tmp_path_factory.mktemp("tiny")), "--skip-test"]


@pytest.fixture
def train(config, tmp_path, monkeypatch):
    """Gives a function that trains in this process, into tmp_path/<folder>, for an exit code."""
    (tmp_path / "code.py").write_text(CODE)

    def call(bad: str, *more, folder: str = "run", loss: str = "loss", once: bool = False) -> int:
        monkeypatch.setenv("BAD", bad)
        monkeypatch.setenv("MARK", str(tmp_path / f"mark_{folder}_"))
        monkeypatch.setenv("ONCE", "1" if once else "")
        return call_tool(monkeypatch, "train_net", arguments(config, tmp_path, folder, loss, more))

    return call


def arguments(config, tmp_path, folder, loss, more):
    code = tmp_path / "code.py"
    user_code = ["MODEL.ASSIGNER.NAME", f"{code}:Watched", "MODEL.BOX_LOSS", f"{code}:{loss}"]
    return [*config, *user_code, "OUTPUT_DIR", tmp_path / folder, "SOLVER.LOG_PERIOD", 1, *more]


def policy(mode, limit=5, factor=0.5):
    return (
        "SOLVER.NOT_FINITE",
        mode,
        "SOLVER.NOT_FINITE_LIMIT",
        limit,
        "SOLVER.NOT_FINITE_LR_FACTOR",
        factor,
    )


def length(iterations):
    return "SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 2


def error_of(capsys) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def tensors(content):
    state = content["optimizer"]["state"]
    return {**content["model"], **{f"{k}.{n}": v for k, s in state.items() for n, v in s.items()}}


@pytest.mark.parametrize("loss", ["loss", "gradient"])
def test_a_skipped_step_leaves_everything_as_it_was(train, tmp_path, loss):
    """That includes batch norm's statistics, which the forward pass has changed."""
    skip = [*policy("skip"), "SOLVER.CHECKPOINT_PERIOD", 1]
    assert train("3", *skip, "SOLVER.MAX_ITER", 3, loss=loss) == 0
    names = ["model_0000002", "model_final", "model_0000004"]
    saved = [torch.load(tmp_path / f"run/{n}.pth", weights_only=True) for n in names[:2]]
    assert train("3", *skip, "SOLVER.MAX_ITER", 5, "--resume", loss=loss) == 0
    saved.append(torch.load(tmp_path / f"run/{names[2]}.pth", weights_only=True))
    before, skipped, after = map(tensors, saved)
    assert [x["setbacks"]["in_a_row"] for x in saved] == [0, 1, 0]
    assert all(torch.equal(before[name], skipped[name]) for name in before)
    assert all(x.isfinite().all() for x in after.values() if isinstance(x, torch.Tensor))
    assert not torch.equal(after["head.bbox_pred.bias"], before["head.bbox_pred.bias"])
    lines = read_lines(tmp_path / "run")
    assert [line["iteration"] for line in lines] == [1, 2, 4, 5]
    log = (tmp_path / "run/log.txt").read_text()
    assert log.count("WARNING iteration 3: ") == 1
    assert "largest logit is 4." in log and "on image ids [" in log and "is skipped" in log


def test_no_checkpoint_is_written_during_iterations_that_are_not_finite(train, tmp_path, capsys):
    every = "SOLVER.CHECKPOINT_PERIOD", 1
    assert train("3 4 5 6 7", *policy("skip", limit=3), *length(9), *every) == 2
    assert error_of(capsys).endswith("--resume continues from model_0000002.pth")
    assert not (tmp_path / "run/model_0000003.pth").exists()
    assert (tmp_path / "run/last_checkpoint").read_text() == "model_0000002.pth"


def test_a_gradient_that_is_not_finite_is_reported_before_the_step(train, tmp_path, capsys):
    assert train("3", *length(6), loss="gradient") == 2
    line = error_of(capsys)
    assert "error: iteration 3: the gradient of " in line and "is not finite (loss_cls 1." in line
    assert "SOLVER.NOT_FINITE skip or rewind" in line
    names = sorted(p.name for p in (tmp_path / "run").glob("model*"))
    assert names == ["model_0000002.pth"]


@pytest.mark.parametrize("mode", ["skip", "rewind"])
def test_a_resumed_run_is_the_same(train, tmp_path, mode):
    """The checkpoint holds the counts and the factor of the learning rates."""
    once = mode == "rewind"
    assert train("3 5", *policy(mode), *length(10), folder="at_once", once=once) == 0
    for last in (4, 6, 10):
        words = [*policy(mode), *length(last), "--resume"]
        assert train("3 5", *words, folder="resumed", once=once) == 0
    at_once, resumed = tmp_path / "at_once", tmp_path / "resumed"
    assert kill_and_resume.differences(at_once, resumed) == []
    assert read_lines(at_once) == read_lines(resumed)


def test_rewind_goes_back_and_continues_with_smaller_rates(train, tmp_path):
    assert train("5", *policy("rewind", factor=0.25), *length(6), once=True) == 0
    lines = {line["iteration"]: line for line in read_lines(tmp_path / "run")}
    assert list(lines) == [1, 2, 3, 4, 5, 6]
    # TINY: 0.02 from iteration 3, a tenth from 5.
    assert [lines[i]["lr"] for i in (4, 5)] == pytest.approx([0.02, 0.02 * 0.1 * 0.25])
    log = (tmp_path / "run/log.txt").read_text()
    assert "iteration 5: the loss is not finite" in log
    assert "continues after iteration 4, learning rates x 0.25" in log


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_rewind_to_a_tested_checkpoint_repeats_its_test(train, tmp_path, asynchronous):
    """The checkpoint was saved before its test, so it does not know the scores."""
    keys = [*policy("rewind", factor=1.0), *length(6), "TEST.PERIOD", 4, "TEST.BEST_METRIC", "AP"]
    keys += ["TEST.ASYNC", asynchronous]
    assert train("", *keys, folder="good") == 0
    assert train("5", *keys, folder="rewound", once=True) == 0
    good, rewound = tmp_path / "good", tmp_path / "rewound"
    saved = [torch.load(run / "model_final.pth", weights_only=True) for run in (good, rewound)]
    assert saved[0]["best"] == saved[1]["best"] and saved[1]["best"]["tested"] == 4
    lines = [sorted(map(str, read_lines(run))) for run in (good, rewound)]
    assert lines[0] == lines[1]
    assert any("dataset" in line for line in read_lines(rewound))


@pytest.mark.parametrize(("mode", "bad"), [("skip", "3 4 5 6 7"), ("rewind", "3")])
def test_too_many_setbacks_in_a_row_end_the_run(train, tmp_path, capsys, mode, bad):
    assert train(bad, *policy(mode, limit=2), *length(9)) == 2
    assert "more than SOLVER.NOT_FINITE_LIMIT 2 in a row" in error_of(capsys)
    log = (tmp_path / "run/log.txt").read_text()
    assert log.count(" is not finite") == 2
    assert not (tmp_path / "run/model_final.pth").exists()


def test_skips_with_steps_between_them_are_not_in_a_row(train):
    assert train("2 3 5 6 8 9", *policy("skip", limit=2), *length(9)) == 0


def test_a_rewind_without_a_checkpoint_is_an_error(train, capsys):
    assert train("1", *policy("rewind"), *length(4)) == 2
    assert "there is no checkpoint yet" in error_of(capsys)


def test_weights_that_are_not_finite_end_the_run(train, tmp_path, capsys):
    assert train("", *length(1)) == 0
    content = torch.load(tmp_path / "run/model_final.pth", weights_only=True)
    content["model"]["head.bbox_pred.bias"][0] = float("nan")
    torch.save(content, tmp_path / "run/model_final.pth")
    assert train("", *length(4), *policy("skip"), "--resume") == 2
    assert "a weight is not finite" in error_of(capsys)


@pytest.mark.parametrize("mode", ["skip", "rewind"])
def test_two_processes_react_together_if_one_has_the_fault(config, tmp_path, monkeypatch, mode):
    (tmp_path / "code.py").write_text(CODE)
    for name, value in (("BAD", "3"), ("ONCE", "1"), ("MARK", str(tmp_path / "mark_"))):
        monkeypatch.setenv(name, value)
    more = [*policy(mode), *length(4)]
    ended = run_tool("train_net", arguments(config, tmp_path, "run", "loss", more), LAUNCH)
    assert ended.returncode == 0, ended.stderr
    (line,) = [x for x in ended.stdout.splitlines() if "iteration 3: " in x]
    assert len(line.partition("image ids [")[2].partition("]")[0].split(",")) == 4
    content = torch.load(tmp_path / "run/model_final.pth", weights_only=True)
    assert content["iteration"] == 4
    assert content["setbacks"]["lr_factor"] == {"skip": 1.0, "rewind": 0.5}[mode]


@pytest.mark.parametrize("loss", ["full", "limited"])
def test_the_message_of_a_full_memory_describes_the_batch(config, tmp_path, monkeypatch, loss):
    if loss == "limited" and sys.platform != "linux":
        pytest.skip("the address space cannot be limited here")
    (tmp_path / "code.py").write_text(CODE)
    for name, value in (("BAD", "3"), ("MARK", str(tmp_path / "mark_"))):
        monkeypatch.setenv(name, value)
    ended = run_tool("train_net", arguments(config, tmp_path, "run", loss, length(4)))
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: iteration 3: the memory is full: lower DATALOADER.NUM_WORKERS")
    assert "this process had 4 images of height x width (boxes) " in line and " padded to " in line
    saved = sorted(p.name for p in (tmp_path / "run").glob("*model*"))
    assert saved == ["model_0000002.pth"] and not os.path.exists(tmp_path / "run/run.lock")
    with contextlib.suppress(FileNotFoundError):
        assert (tmp_path / "run/last_checkpoint").read_text() == "model_0000002.pth"
