"""Numbers beside losses: what is logged of them, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.report import RESERVED, Report
from dynamic_atss.engine.window import Window
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.terms import Terms

CPU = torch.device("cpu")


def number(*values):
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float32)


def told(report):
    return report.status(False, False)


def test_losses_alone_are_minimised():
    weight = nn.Parameter(number(3.0))
    report = Report(1)
    loss = report.add(Terms({"loss_a": 2 * weight}, {"count": 57 * weight}))
    loss.backward()
    assert (loss.item(), weight.grad.item()) == (6, 2)
    status = told(report)
    assert status.losses == {"loss_a": 6} and status.metrics == {"count": (171,)}


def test_passes_of_an_iteration_are_averaged():
    report = Report(2)
    for count, (total, of) in ((4.0, (1.0, 1.0)), (8.0, (3.0, 7.0))):
        report.add(Terms({"loss_a": number(count)}, {"n": number(count), "iou": number(total, of)}))
    status = told(report)
    assert status.losses == {"loss_a": 6}
    assert status.metrics == {"n": (6,), "iou": (2, 4)}  # 4 / 8, not the mean of 1 and 3 / 7


def test_one_collective_for_all(monkeypatch):
    calls = []
    monkeypatch.setattr(distributed, "average", lambda x: calls.append(x.shape) or x)
    report = Report(1)
    report.add(Terms({"loss_a": number(1.0)}, {"n": number(1.0), "iou": number(1.0, 2.0)}))
    assert report.status(True, False)[2:] == (True, False)
    assert calls == [(6,)]


def test_plain_numbers_and_other_types_will_do():
    report = Report(1)
    metrics = {
        "a": 3,
        "b": torch.tensor(7),
        "c": torch.tensor(0.5, dtype=torch.float64),
        "d": (1.0, 2.0),
        "e": np.float32(0.5),
    }
    report.add(Terms({"loss_a": number(1.0)}, metrics))
    assert told(report).metrics == {"a": (3,), "b": (7,), "c": (0.5,), "d": (1, 2), "e": (0.5,)}


def test_the_window_divides_sums_by_counts_and_numbers_by_iterations():
    window = Window()
    window.add({"loss_a": 1.0}, {"n": (4.0,), "iou": (1.0, 1.0), "none": (0.0, 0.0)})
    again = Window()
    again.load_state_dict(window.state_dict())
    for each in (window, again):
        each.add({"loss_a": 3.0}, {"n": (8.0,), "iou": (3.0, 7.0), "none": (0.0, 0.0)})
        line = each.close(CPU)
        assert (line["loss"], line["n"], line["iou"], line["none"]) == (2, 6, 0.5, 0)
        each.add({"loss_a": 5.0}, {"n": (1.0,)})
        line = each.close(CPU)
        assert (line["loss"], line["n"]) == (5, 1) and "iou" not in line


def test_a_test_within_a_window_is_not_in_its_time(monkeypatch):
    clock = iter([0.0, 10.0, 15.0, 75.0, 79.0, 79.0])  # made, started, paused, gone on, closed
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    window = Window()
    window.start()
    window.add({"loss_a": 1.0})
    with window.paused():
        window.add({"loss_a": 1.0})
    window.add({"loss_a": 1.0})
    assert window.close(CPU)["time"] == 3  # (5 + 4) seconds, three iterations


def test_the_state_of_a_window_without_metrics():
    window = Window()
    window.add({"loss_a": 1.0})
    state = window.state_dict()
    del state["metrics"]
    window.load_state_dict(state)
    assert window.close(CPU)["loss_a"] == 1


@pytest.mark.parametrize(
    ("losses", "metrics", "message"),
    [
        ({"loss_a": 1.0}, {"loss_a": 1.0}, "metric 'loss_a': a loss term has that name"),
        *[({"loss_a": 1.0}, {x: 1.0}, f"metric {x!r}: the log has") for x in RESERVED],
        ({"lr": 1.0}, {}, "loss term 'lr': the log has"),
        ({"loss_a": [1.0, 2.0]}, {}, r"loss term 'loss_a': has shape \(2,\), not a scalar"),
        ({"loss_a": 1.0}, {"a": [1.0, 2.0, 3.0]}, r"metric 'a': has shape \(3,\); give one"),
    ],
)
def test_what_is_refused(losses, metrics, message):
    parts = ({name: torch.tensor(x) for name, x in part.items()} for part in (losses, metrics))
    with pytest.raises(UserError, match=message):
        Report(1).add(Terms(*parts))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (Terms({}), "gives no loss term"),
        (Terms({"loss_a": 0.5}), "loss term 'loss_a': is a float, not a scalar tensor"),
        (Terms({"loss_a": number(1.0)}, {"a": "abc"}), "metric 'a': is 'abc'; give one number"),
        (Terms({"loss_a": number(1.0)}, {"a": None}), "metric 'a': is None; give one number"),
        (Terms({"loss_a": number(1.0)}, {"a": (1, 2, 3)}), r"metric 'a': is \(1, 2, 3\); give one"),
        (Terms({"loss_a": number(1.0)}, {"a": (1, "b")}), r"metric 'a': is \(1, 'b'\); give one"),
    ],
)
def test_what_is_no_number_is_refused(terms, message):
    with pytest.raises(UserError, match=message) as caught:
        Report(1).add(terms)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("losses", "metrics"),
    [(["loss_b"], {"n": 1}), (["loss_a"], {"m": 1}), (["loss_a"], {"n": (1, 2)}), (["loss_a"], {})],
)
def test_passes_of_an_iteration_give_the_same_terms(losses, metrics):
    report = Report(2)
    report.add(Terms({"loss_a": number(1.0)}, {"n": 1}))
    with pytest.raises(UserError, match=r"SOLVER.ACCUMULATE\) give different terms.*") as caught:
        report.add(Terms(dict.fromkeys(losses, number(1.0)), metrics))
    assert str([losses, [(n, len(np.atleast_1d(x))) for n, x in metrics.items()]]) in str(
        caught.value
    )
