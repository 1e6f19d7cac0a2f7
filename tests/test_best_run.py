"""Tests runs that follow a metric: the best model, early stop and kept checkpoints.

Also tests the causes that are logged if a test detects nothing.
"""

import shutil

import pytest
import torch
from helpers_run import call_tool, load_module, read_lines, write_config

from dynamic_atss.evaluation.scores import METRICS, CocoScores
from dynamic_atss.run import tester

pytestmark = pytest.mark.slow

kill_and_resume = load_module("benchmarks/kill_and_resume.py")

# Every test has AP 0, so the first, at iteration 2, is the best.
WATCH = ["SOLVER.MAX_ITER", 12, "TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "TEST.PATIENCE", 2]
WATCH += ["SOLVER.LOG_PERIOD", 4, "SOLVER.CHECKPOINT_PERIOD", 100]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def train(config, monkeypatch):
    return lambda out, *args: call_tool(
        monkeypatch, "train_net", [*config, "OUTPUT_DIR", out, *args]
    )


@pytest.fixture(scope="module")
def ended(config, tmp_path_factory):
    """Makes a run that ended at iteration 6, after two tests without a better one."""
    out = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", [*config, *WATCH, "OUTPUT_DIR", out]) == 0
    return out


def load(path):
    return torch.load(path, weights_only=True)


def iterations_with_tests(out) -> list[int]:
    return [line["iteration"] for line in read_lines(out) if "dataset" in line]


def test_a_run_that_ends_early_ends_like_any_other(ended):
    assert iterations_with_tests(ended) == [2, 4, 6]
    assert [x["iteration"] for x in read_lines(ended) if "loss" in x] == [4, 6]
    assert (ended / "last_checkpoint").read_text() == "model_final.pth"
    final, before = load(ended / "model_final.pth"), load(ended / "model_0000006.pth")
    assert final["iteration"] == before["iteration"] == 6
    assert all(torch.equal(final["model"][k], before["model"][k]) for k in final["model"])
    log = (ended / "log.txt").read_text()
    reason = "the run ends at iteration 6: 2 tests gave no AP above 0.0000 of iteration 2"
    assert reason in log and "TEST.PATIENCE 2" in log


def test_each_test_in_training_has_its_folder(ended):
    folder = ended / "inference/shapes_val"
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    assert names == ["0000002", "0000004", "0000006"]
    for name in ("bbox.json", "coco_metrics.json"):
        assert (folder / name).read_bytes() == (folder / "0000006" / name).read_bytes()


def test_the_best_is_the_checkpoint_of_its_test(ended):
    assert load(ended / "model_best.pth")["iteration"] == 2
    assert (ended / "model_best.pth").read_bytes() == (ended / "model_0000002.pth").read_bytes()


def test_resumed_between_the_checkpoint_and_the_last_test_it_ends_the_same(ended, train, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(ended, out)
    (out / "model_final.pth").unlink()
    shutil.rmtree(out / "inference")
    (out / "last_checkpoint").write_text("model_0000004.pth")
    assert train(out, *WATCH, "--resume") == 0
    shutil.rmtree(ended / "inference/shapes_val/0000002")  # not repeated
    assert kill_and_resume.differences(ended, out) == []
    assert read_lines(out) == read_lines(ended)


def test_a_run_resumed_after_its_end_only_tests_unless_the_patience_is_larger(
    ended, train, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(ended, out)
    (out / "inference/shapes_val/bbox.json").unlink()
    weights = (out / "model_final.pth").read_bytes()
    assert train(out, *WATCH, "--resume") == 0
    assert (out / "model_final.pth").read_bytes() == weights
    assert (out / "inference/shapes_val/bbox.json").is_file()
    assert read_lines(out)[-1] in read_lines(ended) and iterations_with_tests(out) == [2, 4, 6]
    assert train(out, *WATCH, "--resume", "TEST.PATIENCE", 4) == 0
    assert iterations_with_tests(out) == [2, 4, 6, 8, 10]
    assert load(out / "model_final.pth")["best"]["waited"] == 4


def scripted(values):
    """Makes a function that gives these scores, one at each test."""
    values = iter(values)
    return lambda *_: CocoScores(dict.fromkeys(METRICS, next(values)), {})


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.3, 0.2], 4), ([0.1, 0.2, 0.3], 6), ([0.3, 0.2, 0.1], 2)]
)
def test_the_best_is_over_all_tests_including_the_final_one(
    train, tmp_path, monkeypatch, values, best
):
    monkeypatch.setattr(tester, "_scores", scripted(values))
    watch = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP50", "SOLVER.KEEP_CHECKPOINTS", 1]
    assert train(tmp_path, *watch) == 0
    assert load(tmp_path / "model_best.pth")["iteration"] == best
    names = sorted(p.name for p in tmp_path.glob("model_*.pth"))
    assert names == ["model_0000004.pth", "model_best.pth", "model_final.pth"]


def test_a_run_without_a_metric_has_no_best(train, tmp_path):
    assert train(tmp_path, "SOLVER.MAX_ITER", 2) == 0
    assert "best" not in load(tmp_path / "model_final.pth")
    assert not (tmp_path / "model_best.pth").exists()


def test_an_undefined_metric_is_refused_before_the_training(train, tmp_path, capsys):
    watch = ["TEST.PERIOD", 2, "TEST.BEST_METRIC"]
    assert train(tmp_path / "a", *watch, "VOC_mAP") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "TEST.BEST_METRIC 'VOC_mAP': shapes_val will have AP, AP50, AP75" in line
    assert "VOC" not in line.partition("will have")[2]
    # The generated shapes of these small images are all below 96 x 96 pixels.
    assert train(tmp_path / "b", *watch, "APl") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "APs" in line and "APl" not in line.partition("will have")[2]
    assert not list(tmp_path.rglob("*.pth"))


def test_a_metric_without_a_test_set_is_refused(train, tmp_path, capsys):
    watch = ["TEST.PERIOD", 2, "TEST.BEST_METRIC", "AP", "DATASETS.TEST", "()"]
    assert train(tmp_path, *watch) == 2
    assert "DATASETS.TEST is empty" in capsys.readouterr().err


# --- tests that detect nothing -----------------------------------------------------------------

AVERAGED = ["SOLVER.OPTIMIZER", "adamw", "SOLVER.BASE_LR", 0.002, "SOLVER.MAX_ITER", 40]
AVERAGED += ["SOLVER.STEPS", "(35,)", "SOLVER.CHECKPOINT_PERIOD", 100, "SOLVER.EMA_DECAY", 0.995]


def causes(out) -> list[str]:
    """Gives the causes of the last test in the log."""
    text = (out / "log.txt").read_text().rpartition("Likely causes, as measured:\n")[2]
    return [line for line in text.splitlines() if line.startswith("- ")]


def test_averaged_weights_are_named_in_training_and_for_the_file(
    config, train, tmp_path, monkeypatch
):
    assert train(tmp_path / "run", *AVERAGED) == 0
    (cause,) = causes(tmp_path / "run")
    assert "averaged weights" in cause
    weight = ["MODEL.WEIGHT", tmp_path / "run/model_final.pth", "OUTPUT_DIR", tmp_path / "test"]
    assert call_tool(monkeypatch, "test_net", [*config, *weight]) == 0
    assert causes(tmp_path / "test") == [cause]


def test_averaged_weights_with_the_ramp_are_not_named(config, train, tmp_path, monkeypatch):
    """A missing log is no error."""
    assert train(tmp_path / "run", *AVERAGED, "SOLVER.EMA_RAMP", True) == 0
    assert "averaged weights" not in (tmp_path / "run/log.txt").read_text()
    shutil.copy(tmp_path / "run/model_final.pth", tmp_path / "alone.pth")
    high = ["MODEL.ATSS.INFERENCE_TH", 0.99, "MODEL.WEIGHT", tmp_path / "alone.pth"]
    assert call_tool(monkeypatch, "test_net", [*config, *high, "OUTPUT_DIR", tmp_path]) == 0
    (cause,) = causes(tmp_path)
    assert "no class score is above MODEL.ATSS.INFERENCE_TH 0.99; the largest is 0." in cause
