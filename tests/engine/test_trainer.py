"""Tests when the training loop logs, saves, tests and ends."""

import os
import signal

import pytest
import torch
from torch import nn

from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.errors import UserError
from dynamic_atss.processes import SIGNALS
from dynamic_atss.types import Batch, GroundTruth


class Toy(nn.Module):
    """loss_a = w, loss_b = 2 w: the gradient is 3 for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(8.0))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss_a": self.w * batch.sizes[0, 0], "loss_b": 2 * self.w}


def batch(factor: float = 1) -> Batch:
    gt = GroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0).long())
    sizes = torch.tensor([[factor, 1]])
    return Batch(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), sizes, gt, (7,), ((1, 1),))


def terminate(number=signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


class Run:
    """Trains ten iterations and records the events.

    at: functions to call at an event. enough: the iteration whose test ends the run.
    """

    def __init__(self, at=None, enough=None, **changes) -> None:
        self.enough = enough
        self.events: list[str] = []
        self.lines: list[dict[str, float]] = []
        self.at = at or {}
        self.model = Toy()
        settings = {
            "loader": [batch()] * 20,
            "start": 0,
            "stop": 10,
            "log_period": 4,
            "checkpoint_period": 5,
            "test_period": 3,
            **changes,
        }
        self.trainer = Trainer(
            model=self.model,
            optimizer=torch.optim.SGD([{"params": self.model.parameters(), "base_lr": 0.1}], lr=1),
            lr_factor=lambda i: 1.0,
            device=torch.device("cpu"),
            save=lambda i: self.note(f"save {i}"),
            log=self.log,
            evaluate=self.evaluate,
            **settings,
        )

    def log(self, line) -> None:
        self.lines.append(line)
        self.note(f"log {line['iteration']}")

    def evaluate(self, iteration) -> bool:
        self.note(f"test {iteration}")
        return iteration == self.enough

    def note(self, event: str) -> None:
        self.events.append(event)
        self.at.get(event, lambda: None)()


def test_the_order_of_events():
    run = Run()
    run.trainer.train()
    assert run.events == [
        "save 3",
        "test 3",
        "log 4",
        "save 5",
        "save 6",
        "test 6",
        "log 8",
        "save 9",
        "test 9",
        "log 10",
        "save 10",
    ]


@pytest.mark.parametrize("start, period, lines", [(0, 4, 1), (6, 20, 1), (0, 1, 0), (9, 20, 0)])
def test_the_first_iteration_has_a_line_of_text(start, period, lines, caplog):
    """It has none if it has a line of numbers, or is the last iteration. The weight is 8."""
    with caplog.at_level("INFO", logger="dynamic_atss"):
        Run(start=start, log_period=period, test_period=0).trainer.train()
    logged = [m for m in caplog.messages if m.startswith("iteration")]
    wanted = [f"iteration {start + 1}/10", "loss 24.0000"]
    assert [m.split("  ")[:2] for m in logged] == [wanted] * lines


def test_lines_average_over_their_iterations():
    """w = 8, 7.7, 7.4, ...: means over iterations 1 to 4, 5 to 8, 9 and 10."""
    run = Run()
    run.trainer.train()
    means = [8 - 0.3 * 1.5, 8 - 0.3 * 5.5, 8 - 0.3 * 8.5]
    assert [line["loss_a"] for line in run.lines] == pytest.approx(means)
    assert [line["loss"] for line in run.lines] == pytest.approx([3 * m for m in means])
    assert [line["lr"] for line in run.lines] == pytest.approx([0.1] * 3)
    assert all(0 <= line["data_time"] <= line["time"] for line in run.lines)


def test_a_resumed_run_repeats_the_test_at_its_start_and_logs_the_same_lines():
    uninterrupted, second, state = Run(), Run(start=6), {}
    first = Run(at={"save 6": lambda: state.update(first.trainer.averages.state_dict())}, stop=7)
    uninterrupted.trainer.train()
    first.trainer.train()
    second.model.w.data.fill_(8 - 0.3 * 6)
    second.trainer.averages.load_state_dict(state)
    second.trainer.train()
    assert second.events == uninterrupted.events[uninterrupted.events.index("test 6") :]
    for key in ("loss", "loss_a", "loss_b"):
        expected = [line[key] for line in uninterrupted.lines[1:]]
        assert [line[key] for line in second.lines] == pytest.approx(expected)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_after_the_iteration_and_logs_no_extra_line(number):
    run = Run(at={"log 4": lambda: terminate(number)})
    with pytest.raises(Stopped) as ended:
        run.trainer.train()
    assert ended.value.code == 128 + number
    assert run.events == ["save 3", "test 3", "log 4", "save 5"]


def test_sigterm_ends_a_test_at_once():
    run = Run(at={"test 6": terminate})
    with on_signals(stop_now), pytest.raises(Stopped) as ended:
        run.trainer.train()
    assert ended.value.code == 143
    assert run.events[-1] == "test 6"


def test_sigterm_while_saving_before_a_test():
    run = Run(at={"save 6": terminate})
    with pytest.raises(Stopped) as ended:
        run.trainer.train()
    assert ended.value.code == 143
    assert run.events[-1] == "save 6"


@pytest.mark.parametrize("event", ["log 10", "save 10"])
def test_sigterm_in_the_last_iteration_leaves_the_final_test_to_the_next_run(event):
    run = Run(at={event: terminate})
    with pytest.raises(Stopped):
        run.trainer.train()
    assert run.events[-1] == "save 10"


def test_the_former_signal_handler_is_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    Run().trainer.train()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(UserError):
        Run(loader=[batch(float("nan"))]).trainer.train()
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_reported_with_iteration_images_and_terms(value):
    run = Run(loader=[batch()] * 6 + [batch(value)])
    with pytest.raises(UserError) as caught:
        run.trainer.train()
    message = str(caught.value)
    assert "iteration 7: the loss is not finite" in message and "image ids [7]" in message
    assert f"loss_a {value}" in message and "loss_b 12.4" in message
    assert run.events[-2:] == ["save 6", "test 6"]


def test_weights_that_are_not_finite_are_not_saved():
    run = Run()
    run.trainer.lr_factor = lambda i: float("inf") if i == 4 else 1.0
    with pytest.raises(UserError, match=r"iteration 5: w is not finite"):
        run.trainer.train()
    assert "save 5" not in run.events


def test_window_keeps_its_state():
    first, second = LogAverages(), LogAverages()
    first.add({"loss_a": 1.0})
    second.load_state_dict(first.state_dict())
    second.add({"loss_a": 2.0})
    assert second.close(torch.device("cpu"))["loss_a"] == 1.5
    second.add({"loss_a": 5.0})
    assert second.close(torch.device("cpu"))["loss_a"] == 5.0


def broken_after(count: int):
    yield from [batch()] * count
    raise UserError("images/7.jpg: truncated")


def test_unreadable_data_lose_no_finished_iteration():
    """The iteration before the one that needs the broken file is saved, off the usual period."""
    run = Run(loader=broken_after(7), test_period=0)
    with pytest.raises(UserError, match=r"7\.jpg: truncated"):
        run.trainer.train()
    assert run.events == ["log 4", "save 5", "save 7"]


def test_unreadable_data_at_the_start_are_reported_at_once():
    run = Run(loader=broken_after(0))
    with pytest.raises(UserError, match=r"7\.jpg: truncated"):
        run.trainer.train()
    assert not run.events


def test_a_test_that_ends_the_run_is_followed_by_a_line_and_a_checkpoint():
    run = Run(enough=6)
    run.trainer.train()
    assert run.events == [
        "save 3",
        "test 3",
        "log 4",
        "save 5",
        "save 6",
        "test 6",
        "log 6",
        "save 6",
    ]
    assert run.lines[-1]["loss_a"] == pytest.approx(8 - 0.3 * 4.5)
    assert run.lines[-1]["lr"] == pytest.approx(0.1)


def test_no_line_is_logged_twice_if_the_run_ends_early_at_one():
    run = Run(enough=6, log_period=3)
    run.trainer.train()
    assert run.events[-3:] == ["save 6", "test 6", "save 6"]
    assert run.events.count("log 6") == 1


def test_a_resumed_run_ends_if_the_repeated_test_ends_it():
    first, state = Run(enough=6, at={"save 6": lambda: None}), {}
    first.at["save 6"] = lambda: state or state.update(first.trainer.averages.state_dict())
    first.trainer.train()
    resumed = Run(start=6, enough=6, loader=broken_after(0))
    resumed.trainer.averages.load_state_dict(state)
    resumed.trainer.train()
    assert resumed.events == ["test 6", "log 6", "save 6"]
    for key in ("loss", "loss_a", "lr"):
        assert resumed.lines[-1][key] == pytest.approx(first.lines[-1][key])


def test_sigterm_while_a_run_ends_early_leaves_its_last_test_to_the_next():
    run = Run(enough=6, at={"log 6": terminate})
    with pytest.raises(Stopped):
        run.trainer.train()
    assert run.events[-2:] == ["log 6", "save 6"]
