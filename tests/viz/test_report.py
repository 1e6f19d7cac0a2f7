import json

import cv2
import numpy as np
import pytest

from dynamic_atss.errors import UserError
from dynamic_atss.viz.report import _loss_names, plot_losses, plot_run, smooth


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_plot_copes_with_gaps_evaluations_and_a_broken_line(tmp_path):
    records = [{"iteration": i, "loss": 2 / i, "loss_cls": 1 / i, "lr": 0.01} for i in range(1, 60)]
    records[7]["loss"] = None
    records.insert(20, {"iteration": 20, "dataset": "bccd", "AP": 0.5})
    path = write(tmp_path / "metrics.jsonl", records)
    with path.open("a") as file:
        file.write('{"iteration": 60, "lo')
    plot_losses(path, tmp_path / "plots" / "losses.png")
    picture = cv2.imread(str(tmp_path / "plots" / "losses.png"))
    assert picture.shape[1] > 900 and 0.005 < (picture < 200).any(2).mean() < 0.3


@pytest.mark.parametrize("records", [[], [{"iteration": 1, "dataset": "bccd", "AP": 0.5}]])
def test_nothing_to_plot_is_reported(tmp_path, records):
    with pytest.raises(UserError, match="no training record"):
        plot_losses(write(tmp_path / "metrics.jsonl", records), tmp_path / "losses.png")
    with pytest.raises(UserError, match="no training record"):
        plot_losses(tmp_path / "nowhere.jsonl", tmp_path / "losses.png")


def test_one_record_or_only_broken_numbers_still_make_a_picture(tmp_path):
    path = write(tmp_path / "metrics.jsonl", [{"iteration": 20, "loss": None, "lr": 0.1}])
    plot_losses(path, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size > 1000


def test_a_plot_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    plot_run(tmp_path)
    assert not list(tmp_path.iterdir()) and not caplog.text  # no record: nothing to plot
    write(tmp_path / "metrics.jsonl", [{"iteration": 20, "loss": 1.0, "lr": 0.1}])
    (tmp_path / "losses.png").mkdir()
    plot_run(tmp_path)
    assert "losses.png: cannot be written" in caplog.text


def test_terms_are_drawn_and_metrics_are_not_also_of_branches():
    record = {"iteration": 1, "loss": 2.0, "one/loss_cls": 1.0, "one/positives": 30, "loss_a": 1.0}
    assert _loss_names([record]) == ["loss", "one/loss_cls", "loss_a"]


def test_smoothing_is_the_mean_of_known_values():
    values = np.array([1.0, 2, np.nan, 6, 8])
    expected = [1.5, 1.5, np.nan, 7, 7]
    np.testing.assert_allclose(smooth(values, 3), expected)
