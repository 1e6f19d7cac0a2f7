"""Tests the averaged weights: the formula with and without the ramp, and short runs."""

import pytest
import torch
from helpers_run import TINY
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_atss.builders import (
    build_lr_factor,
    build_model,
    build_optimizer,
    build_train_dataset,
    build_train_loader,
)
from dynamic_atss.config.load import load_config
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.engine.diagnosis import largest_score
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.engine.weight_average import averaged_model, decay_at, distance


class Number(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("seen", torch.tensor([value], dtype=torch.float64))


def averages(values, decay, ramp):
    """Yields the average after each of the values."""
    model = Number()
    average = averaged_model(model, decay, ramp=ramp)
    for value in values:
        model.w.data.fill_(value)
        model.seen.fill_(2 * value)
        average.update_parameters(model)
        assert average.module.seen.item() == pytest.approx(2 * average.module.w.item())
        yield average.module.w.item()


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.995])
def test_the_ramp_follows_its_formula(decay):
    values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0] * 6
    expected, mean = [values[0]], values[0]
    for n, value in enumerate(values[1:], 1):
        keep = min(decay, (1 + n) / (10 + n))
        mean = keep * mean + (1 - keep) * value
        expected.append(mean)
    assert list(averages(values, decay, ramp=True)) == pytest.approx(expected)


def test_without_the_ramp_the_average_is_that_of_torch_to_the_bit():
    values = [3.0, -1.0, 4.0, 1.0]
    average, update = torch.tensor([3.0], dtype=torch.float64), get_ema_multi_avg_fn(0.9)
    for value in values[1:]:
        update([average], [torch.tensor([value], dtype=torch.float64)], None)
    assert list(averages(values, 0.9, ramp=False))[-1] == average.item()


class Operators(TorchDispatchMode):
    """Lists the operators whose results come from, or go to, another device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name, where = operator._schema.name, {x.device.type for x in args if torch.is_tensor(x)}
        if name == "aten::_to_copy" or (name == "aten::_local_scalar_dense" and "meta" in where):
            self.found.append(name)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("ramp", [False, True])
def test_an_update_copies_nothing_to_the_device(ramp):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to("meta")  # any other device
    average = averaged_model(model, 0.9, ramp=ramp)
    with Operators() as operators:
        for _ in range(3):
            average.update_parameters(model)
    assert operators.found == [] and int(average.n_averaged) == 3


@pytest.mark.parametrize("run", [40, 200, 1000])
def test_the_average_reaches_back_over_a_ninth_of_the_run(run):
    """The average of 1, 2, ..., n is about n - (n - 1) / 10: the mean age is a tenth of n."""
    *_, last = averages(map(float, range(1, run + 1)), 0.9999, ramp=True)
    assert run / 12 < run - last < run / 8


def test_the_decay_never_falls_and_ends_at_its_value():
    rates = [decay_at(n, 0.995) for n in range(3000)]
    assert rates == sorted(rates) and rates[0] == 0.1
    assert rates[-1] == 0.995 and rates.index(0.995) == 1790


def test_distance_is_relative():
    assert distance(Number(4.5), Number(5.0)) == pytest.approx(0.1)
    assert distance(Number(5.0), Number(5.0)) == 0


def trained_for_40_iterations(folder, *overrides):
    """Trains a model, and gives it, its average and a batch."""
    make_shapes(folder / "datasets" / "shapes", train=16, val=8, size=96)
    (folder / "tiny.yaml").write_text(TINY)
    data = ["DATASETS.ROOT", f"{folder}/datasets", "SOLVER.MAX_ITER", "40", "SOLVER.STEPS", "(35,)"]
    adam = ["SOLVER.OPTIMIZER", "adamw", "SOLVER.BASE_LR", "0.002"]
    cfg = load_config(folder / "tiny.yaml", [*data, *adam, "SOLVER.EMA_DECAY", "0.995", *overrides])
    torch.manual_seed(0)
    dataset = build_train_dataset(cfg)
    model = build_model(cfg, len(dataset.class_names))
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY, ramp=cfg.SOLVER.EMA_RAMP)
    loader = list(build_train_loader(cfg, dataset, 0))
    Trainer(
        model=model,
        loader=loader,
        optimizer=build_optimizer(cfg, model),
        lr_factor=build_lr_factor(cfg),
        device=torch.device("cpu"),
        save=lambda iteration: None,
        log=lambda line: None,
        evaluate=lambda iteration: False,
        start=0,
        stop=40,
        ema=average,
    ).train()
    return model, average.module, loader[0]


@pytest.mark.slow
def test_the_ramp_helps_a_run_of_40_iterations(tmp_path):
    """Without the ramp the average still has the scores of the first iterations."""
    distances, scores = {}, {}
    for ramp in ("True", "False"):
        model, average, batch = trained_for_40_iterations(tmp_path, "SOLVER.EMA_RAMP", ramp)
        distances[ramp] = distance(average, model)
        scores[ramp] = largest_score(average, batch)
    trained = largest_score(model, batch)
    assert trained > 0.2
    assert scores["True"] > trained / 2
    assert scores["False"] < trained / 4
    assert distances["True"] < distances["False"] / 5
