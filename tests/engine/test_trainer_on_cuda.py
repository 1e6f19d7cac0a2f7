"""Trains on a GPU: CUDA graphs, fused updates, one copy and one wait in each iteration."""

import warnings

import pytest
import torch
from helpers_run import TINY

from dynamic_atss.builders import build_lr_factor, build_model, build_optimizer
from dynamic_atss.config.load import load_config
from dynamic_atss.data.pack import pack, pinned_bytes
from dynamic_atss.engine.state import _restore_optimizer
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.engine.weight_average import averaged_model
from dynamic_atss.types import Batch, GroundTruth, to_device

pytestmark = pytest.mark.cuda
GPU = "cuda"
SIZES = ((128, 160), (120, 150))


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (2, 128, 160, 3), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 80, 60], [10, 20, 30, 40]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]))
    return Batch(pixels.permute(0, 3, 1, 2), torch.tensor(SIZES), gt, (11, 12), SIZES)


@pytest.fixture
def tiny(tmp_path):
    """Makes a configuration. The norms use no batch statistics, which spread rounding."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    fixed = ["MODEL.DEVICE", "cuda", "MODEL.RESNETS.NORM", "FrozenBN", "SOLVER.BASE_LR", "0.001"]
    return lambda *overrides: load_config(tmp_path / "tiny.yaml", [*fixed, *overrides])


def trainer(cfg, steps: int) -> tuple[Trainer, list[dict[str, float]]]:
    torch.manual_seed(0)
    model = build_model(cfg, 3).to(GPU)
    lines: list[dict[str, float]] = []
    run = Trainer(
        model=model,
        loader=[pack(a_batch(), pinned_bytes)] * steps,
        optimizer=build_optimizer(cfg, model),
        lr_factor=build_lr_factor(cfg),
        device=torch.device(GPU),
        save=lambda _: None,
        log=lines.append,
        evaluate=lambda _: None,
        start=0,
        stop=steps,
        ema=averaged_model(model, cfg.SOLVER.EMA_DECAY),
        clip_grad_norm=10.0,
        log_period=1,
    )
    return run, lines


def losses(cfg, steps: int = 8) -> list[float]:
    run, lines = trainer(cfg, steps)
    run.train()
    return [line["loss"] for line in lines]


@pytest.mark.parametrize("compiled", ["False", "True"])
@pytest.mark.parametrize("parts", ["1", "2"])
def test_recorded_steps_are_the_steps_and_nothing_is_skipped(tiny, compiled, parts):
    from torch._dynamo.utils import counters

    counters.clear()
    overrides = ["SOLVER.ACCUMULATE", parts, "SOLVER.EMA_DECAY", "0.9"]
    plain = losses(tiny(*overrides))
    recorded = losses(tiny(*overrides, "MODEL.CUDA_GRAPHS", "True", "MODEL.COMPILE", compiled))
    assert recorded == pytest.approx(plain, rel=1e-2)
    assert counters["inductor"]["cudagraph_skips"] == 0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_updates_are_the_updates(tiny, name):
    plain, fused = (
        losses(tiny("SOLVER.OPTIMIZER", name, "SOLVER.FUSED", x)) for x in ("False", "True")
    )
    assert fused == pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("before, now", [("False", "True"), ("True", "False")])
def test_the_optimizer_resumes_with_another_setting(tiny, name, before, now):
    run, _ = trainer(tiny("SOLVER.OPTIMIZER", name, "SOLVER.FUSED", before), 3)
    run.train()
    overrides = ("SOLVER.OPTIMIZER", name, "SOLVER.FUSED", now, "MODEL.CHANNELS_LAST", "True")
    other, lines = trainer(tiny(*overrides), 3)
    _restore_optimizer(other.optimizer, run.optimizer.state_dict())
    other.train()
    assert len(lines) == 3


@pytest.mark.parametrize("overrides", [(), ("SOLVER.OPTIMIZER", "adamw")])
def test_an_iteration_waits_once(tiny, overrides, monkeypatch):
    monkeypatch.setattr(Trainer, "_check_weights", lambda *_: None)  # before a checkpoint only
    run, _ = trainer(tiny(*overrides, "SOLVER.EMA_DECAY", "0.9"), 3)
    run.train()  # makes priors and momenta
    run.start, run.stop = 3, 6
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchroniz" in str(x.message) for x in found) == 3


def test_a_packed_batch_arrives_whole():
    batch = a_batch()
    packed = pack(batch, pinned_bytes)
    assert packed.buffer.is_pinned()
    there = to_device(packed, GPU)
    assert there.images.is_contiguous(memory_format=torch.channels_last)
    for x, y in ((batch.images, there.images), (batch.sizes, there.sizes)):
        assert torch.equal(x, y.cpu())
    for name in ("boxes", "classes", "image_index"):
        assert torch.equal(getattr(batch.gt, name), getattr(there.gt, name).cpu())
