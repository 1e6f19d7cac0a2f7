import json
import logging
import sys
import time

import pytest
import torch

from dynamic_atss.engine.logger import setup_logging
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.evaluation.scores import METRICS, CocoScores
from dynamic_atss.files import read_metrics


def write_steps(folder, steps, start=0):
    with MetricsWriter(folder, start, tensorboard=False) as writer:
        for step in steps:
            writer.write(step, {"loss": step / 8, "lr": 0.01})


def test_records_come_back_and_are_on_disk_at_once(tmp_path):
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write(20, {"loss": torch.tensor(0.5), "loss_cls": 0.25, "max_mem_mb": 7})
    scores = CocoScores(dict.fromkeys(METRICS, 0.5), {"cell": 0.5})
    writer.write_evaluation(20, "bccd", scores)
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first == {"iteration": 20, "loss": 0.5, "loss_cls": 0.25, "max_mem_mb": 7}
    assert second == {"iteration": 20, "dataset": "bccd", **dict.fromkeys(METRICS, 0.5)}
    writer.close()
    writer.close()


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write(1, {"loss": float("nan"), "loss_reg": torch.tensor(float("inf")), "lr": 0.1})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "iteration": 1,
        "loss": None,
        "loss_reg": None,
        "lr": 0.1,
    }


def test_a_resumed_run_drops_records_that_it_writes_again_and_the_broken_line(tmp_path):
    write_steps(tmp_path, (20, 40, 60, 80))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 100, "lo')
    write_steps(tmp_path, (60, 80), start=50)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["iteration"] for r in records] == [20, 40, 60, 80]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_broken_last_line_does_not_break_the_next_one(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"iteration": 20, "loss": 1.0}\n{"iter\xff')
    write_steps(tmp_path, (40,), start=20)
    assert [r["iteration"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [20, 40]


def test_reading_a_missing_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_tensorboard_events_hold_each_number_once_after_a_resume(tmp_path, monkeypatch):
    """A resumed run begins in a later second, which gives the order of the event files."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    now = time.time()
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        monkeypatch.setattr(time, "time", lambda seconds=now + start: seconds)
        with MetricsWriter(tmp_path, start) as writer:
            for step in steps:
                writer.write(step, {"loss": step + start / 10})
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [e.step for e in events] == [1, 2, 3, 4]
    assert events[2].value == pytest.approx(3.2)


def test_tensorboard_has_classes_text_pictures_and_hyperparameters(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    scores = CocoScores({**dict.fromkeys(METRICS, 0.5), "APs": -1.0}, {"cell": 0.25, "none": -1.0})
    keys = {"SOLVER.BASE_LR": 0.5, "MODEL.ATSS_ON": True, "DATASETS.TRAIN": ("a",)}
    with MetricsWriter(tmp_path) as writer:
        writer.write_run("Training\n  head  ATSS", "SEED: 7", keys, ["bccd"])
        writer.write(20, {"loss": 1.0, "one/loss_cls": 1.0, "positives": 5, "time": 1, "lr": 0.1})
        writer.write_evaluation(20, "bccd", scores)
        writer.write_pictures(20, "pictures/bccd", {"7": torch.zeros(3, 30, 40, dtype=torch.uint8)})
        assert writer.draws
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    training = {"train/loss", "train/one/loss_cls", "metrics/positives", "speed/time", "train/lr"}
    tested = {f"eval/bccd/{name}" for name in METRICS if name != "APs"}  # undefined: no point
    assert set(tags["scalars"]) == training | tested | {"eval_AP_by_class/bccd/cell"}
    assert events.Scalars("eval_AP_by_class/bccd/cell")[0].value == 0.25
    (picture,) = events.Images("pictures/bccd/7")
    assert (picture.height, picture.width, picture.step) == (30, 40, 20)
    (text,) = events.Tensors("run/text_summary")
    assert text.tensor_proto.string_val == [b"    Training\n      head  ATSS"]
    content = events.PluginTagToContent("hparams")
    session = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    hparams = session.session_start_info.hparams
    assert hparams["SOLVER.BASE_LR"].number_value == 0.5
    assert hparams["MODEL.ATSS_ON"].string_value == "True"
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    shown = [info.name.tag for info in experiment.metric_infos]
    assert shown == ["train/loss", "eval/bccd/AP"] and set(shown) <= set(tags["scalars"])


def test_without_tensorboard_the_run_continues(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO), MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": 0.5})
        writer.write(2, {"loss": 0.5})
        writer.write_run("", "", {}, [])
        writer.write_pictures(2, "bccd", {"7": torch.zeros(3, 30, 40, dtype=torch.uint8)})
        assert not writer.draws
    assert caplog.text.count("tensorboard is not installed") == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


@pytest.fixture
def package_log():
    """Restores the package's logger."""
    logger = logging.getLogger("dynamic_atss")
    before = list(logger.handlers), logger.level
    yield logger
    for handler in set(logger.handlers) - set(before[0]):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(before[1])


def test_log_goes_to_console_and_file_once(tmp_path, capsys, package_log):
    (tmp_path / "log.txt").write_text("earlier run\n")
    for _ in range(3):
        setup_logging(tmp_path)
    logging.getLogger("dynamic_atss.engine.trainer").info("iteration 20")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[0] == "earlier run" and lines[1].endswith("INFO iteration 20") and len(lines) == 2
    assert capsys.readouterr().out.count("iteration 20") == 1


def test_other_ranks_log_only_warnings(tmp_path, capsys, package_log):
    setup_logging(tmp_path, rank=3)
    package_log.info("nothing new")
    assert not (tmp_path / "log.txt").exists()
    package_log.warning("a truncated image")
    assert capsys.readouterr().out.endswith("WARNING rank 3 a truncated image\n")
    assert "truncated" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"iteration": "x"}',
        '{"iteration": null}',
        '{"iteration": []}',
        '{"iteration": 1e999}',
        '{"iteration": 3, "loss": "x"}',
        '{"iteration": 3, "loss": ' + "9" * 400 + "}",
    ],
)
def test_lines_that_are_no_records_are_skipped_and_counted(tmp_path, caplog, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"iteration": 1, "loss": 2.5, "lr": 0.1}}\n{line}\n')
    assert [record["iteration"] for record in read_metrics(path)] == [1]
    assert "skipped 1 of 2 lines" in caplog.text
