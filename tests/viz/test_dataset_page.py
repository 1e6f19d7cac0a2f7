"""Tests the plots of the page about data sets: integer bars, plain ticks."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.survey import SurveyInput
from dynamic_atss.viz.dataset_page import PLOTS


def surveyed(tmp_path, counts):
    """Makes a data set with `counts` boxes of 10 x 20 in its images."""
    rows = [(i, 0, 1, 1, 10, 20) for i, count in enumerate(counts) for _ in range(count)]
    content = Annotations.of_rows([f"{i}.png" for i in range(len(counts))], ["cat"], rows)
    content.sizes[:] = 60, 100
    return SurveyInput("a.json", tmp_path, content)


def drawn(name, data_set):
    figure = Figure()
    axes = figure.subplots()
    PLOTS[name](axes, data_set)
    figure.canvas.draw()
    return axes


@pytest.mark.parametrize("counts", [[1, 2, 2, 5], [0, 3, 90, 90, 91]])
def test_each_bar_counts_equally_many_integers(tmp_path, counts):
    bars = drawn("objects per image", surveyed(tmp_path, counts)).patches
    widths = {round(bar.get_width(), 6) for bar in bars}
    assert len(widths) == 1 and widths.pop() == -(-(max(counts) + 1) // 40)
    for bar in bars:
        low, high = bar.get_x(), bar.get_x() + bar.get_width()
        assert bar.get_height() == sum(low < count < high for count in counts)
    assert sum(bar.get_height() for bar in bars) == len(counts)


@pytest.mark.parametrize(("name", "tick"), [("box sizes", "16"), ("box shapes", "0.5")])
@pytest.mark.parametrize("longest", [10, 60])
def test_ticks_are_plain_numbers(tmp_path, name, tick, longest):
    """Covers a data set whose boxes all have the same size."""
    data_set = surveyed(tmp_path, [2])
    data_set.content.xywh[0, 2:] = longest, longest * 2
    labels = [t.get_text() for t in drawn(name, data_set).get_xticklabels()]
    assert len(labels) > 1 and all(np.isfinite(float(label)) for label in labels)
    assert tick in labels or (name == "box sizes" and longest == 10)


def test_the_bar_of_a_single_class_is_thin(tmp_path):
    axes = drawn("classes", surveyed(tmp_path, [2]))
    low, high = axes.get_ylim()
    assert (high - low) >= 8 * axes.patches[0].get_height()


def test_circles_of_the_largest_images_are_inside(tmp_path):
    axes = drawn("image sizes", surveyed(tmp_path, [2]))
    assert axes.get_xlim()[1] > 100 and axes.get_ylim()[1] > 60
    assert axes.get_title().startswith("Images: 1 size (")
