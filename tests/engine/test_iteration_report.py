"""Tests the losses and metrics of an iteration: what is logged, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.engine.names import Names
from dynamic_atss.engine.report import RESERVED, Report
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.terms import Terms

CPU = torch.device("cpu")


def number(*values):
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float32)


def status_of(report):
    return report.status(torch.tensor(1.0), False, 0)


def test_only_losses_are_minimised():
    weight = nn.Parameter(number(3.0))
    report = Report(Terms({"loss_a": 2 * weight}, {"count": 57 * weight}), Names())
    report.loss.backward()
    assert (report.loss.item(), weight.grad.item()) == (6, 2)
    status = status_of(report)
    assert status.losses == {"loss_a": 6} and status.metrics == {"count": (171,)}


def test_one_collective_for_all(monkeypatch):
    calls = []
    monkeypatch.setattr(distributed, "average", lambda x: calls.append(x.shape) or x)
    metrics = {"n": number(1.0), "iou": number(1.0, 2.0)}
    report = Report(Terms({"loss_a": number(1.0)}, metrics), Names())
    assert report.status(torch.tensor(2.0), True, 75)[2:] == (2.0, True, 75)
    assert calls == [(8,)]


def test_plain_numbers_and_other_types_are_accepted():
    metrics = {
        "a": 3,
        "b": torch.tensor(7),
        "c": torch.tensor(0.5, dtype=torch.float64),
        "d": (1.0, 2.0),
        "e": np.float32(0.5),
    }
    report = Report(Terms({"loss_a": number(1.0)}, metrics), Names())
    expected = {"a": (3,), "b": (7,), "c": (0.5,), "d": (1, 2), "e": (0.5,)}
    assert status_of(report).metrics == expected


def test_the_window_divides_sums_by_counts_and_numbers_by_iterations():
    window = LogAverages()
    window.add({"loss_a": 1.0}, {"n": (4.0,), "iou": (1.0, 1.0), "none": (0.0, 0.0)})
    again = LogAverages()
    again.load_state_dict(window.state_dict())
    for each in (window, again):
        each.add({"loss_a": 3.0}, {"n": (8.0,), "iou": (3.0, 7.0), "none": (0.0, 0.0)})
        line = each.close(CPU)
        assert (line["loss"], line["n"], line["iou"], line["none"]) == (2, 6, 0.5, 0)
        each.add({"loss_a": 5.0}, {"n": (1.0,)})
        line = each.close(CPU)
        assert (line["loss"], line["n"]) == (5, 1) and "iou" not in line


def test_a_test_within_a_window_is_not_in_its_time(monkeypatch):
    clock = iter([0.0, 10.0, 15.0, 75.0, 79.0, 79.0])  # made, started, paused, resumed, closed
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    window = LogAverages()
    window.start()
    window.add({"loss_a": 1.0})
    with window.paused():
        window.add({"loss_a": 1.0})
    window.add({"loss_a": 1.0})
    assert window.close(CPU)["time"] == 3  # (5 + 4) seconds, three iterations


def test_the_state_of_a_window_without_metrics():
    window = LogAverages()
    window.add({"loss_a": 1.0})
    state = window.state_dict()
    del state["metrics"]
    window.load_state_dict(state)
    assert window.close(CPU)["loss_a"] == 1


@pytest.mark.parametrize(
    ("losses", "metrics", "message"),
    [
        *[({"loss_a": 1.0}, {x: 1.0}, f"metric {x!r}: the log has") for x in RESERVED],
        ({"loss_a": 1.0}, {"a": [1.0, 2.0, 3.0]}, r"metric 'a': has shape \(3,\); give one"),
    ],
)
def test_wrong_names_and_shapes_are_refused(losses, metrics, message):
    loss_terms = {name: torch.tensor(x) for name, x in losses.items()}
    metric_terms = {name: torch.tensor(x) for name, x in metrics.items()}
    with pytest.raises(UserError, match=message):
        Report(Terms(loss_terms, metric_terms), Names())


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (Terms({"loss_a": number(1.0)}, {"a": "abc"}), "metric 'a': is 'abc'; give one number"),
        (Terms({"loss_a": number(1.0)}, {"a": None}), "metric 'a': is None; give one number"),
        (Terms({"loss_a": number(1.0)}, {"a": (1, 2, 3)}), r"metric 'a': is \(1, 2, 3\); give one"),
        (Terms({"loss_a": number(1.0)}, {"a": (1, "b")}), r"metric 'a': is \(1, 'b'\); give one"),
    ],
)
def test_values_that_are_no_numbers_are_refused(terms, message):
    with pytest.raises(UserError, match=message) as caught:
        Report(terms, Names())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("losses", "metrics", "difference"),
    [
        (["loss_b"], {"n": 1}, "without 'loss_a', with 'loss_b'"),
        (["loss_a"], {"m": 1}, "without 'n', with 'm'"),
        (["loss_a"], {"n": (1, 2)}, "'n' has 2 numbers, not 1"),
        (["loss_a"], {}, "without 'n'"),
    ],
)
def test_steps_must_give_the_same_terms(losses, metrics, difference):
    names = Names()
    Report(Terms({"loss_a": number(1.0)}, {"n": 1}), names)
    with pytest.raises(UserError, match=f"this step differs from the first: {difference}; losses"):
        Report(Terms(dict.fromkeys(losses, number(1.0)), metrics), names)


def test_another_order_is_refused():
    names = Names()
    names.check({"a": 1, "b": 2})
    with pytest.raises(UserError, match="the order is b, a, not a, b;"):
        names.check({"b": 2, "a": 1})


def test_processes_are_compared_once(monkeypatch):
    calls = []
    monkeypatch.setattr(distributed, "gather", lambda x: calls.append(x) or [x, x])
    names = Names()
    for _ in range(3):
        names.check({"loss_a": 1, "iou": 2})
    assert calls == [[("loss_a", 1), ("iou", 2)]]
    others = [[("loss_a", 1)], [("loss_a", 1)], [("loss_a", 1), ("mine", 1)]]
    monkeypatch.setattr(distributed, "gather", lambda x: others)
    with pytest.raises(UserError, match=r"^process 2 differs from process 0: with 'mine'; losses"):
        Names().check({"loss_a": 1})
