"""MODEL.CUDA_GRAPHS: what is recorded, what is not, and what the log says of it.

There is no GPU here: the tests look at how PyTorch is asked, and train with a backend for CPUs.
"""

import logging
from dataclasses import replace

import pytest
import torch
from helpers_run import TINY
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.builders import build_lr_factor, build_model, build_optimizer
from dynamic_atss.builders import model as builder
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.engine.weight_average import averaged_model
from dynamic_atss.inference.restore import for_prediction
from dynamic_atss.modeling import cuda_graphs
from dynamic_atss.types import Batch, GroundTruth

GRAPHS = ("MODEL.CUDA_GRAPHS", "True")
LINES = "dynamic_atss.modeling.cuda_graphs"


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return lambda *overrides: load_config(tmp_path / "tiny.yaml", overrides)


@pytest.fixture
def asked(monkeypatch):
    """Gives how modules are compiled. Nothing is compiled."""
    calls = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: calls.append((self, how)))
    return calls


@pytest.fixture
def gpu(monkeypatch):
    """Lets the builder of models believe in a GPU."""
    monkeypatch.setattr(builder, "uses_gpu", lambda cfg: True)
    before = torch._dynamo.config.recompile_limit
    yield
    torch._dynamo.config.recompile_limit = before


def a_batch(height=64, width=96, images=2):
    generator = torch.Generator().manual_seed(0)
    shape = images, 3, height, width
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[4.0, 4, 40, 50], [20, 10, 60, 60], [10, 20, 30, 40]])
    gt = GroundTruth(boxes, torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]))
    sizes = torch.tensor([[height, width], [height - 4, width - 6]] * (images // 2))
    ids = tuple(range(images))
    return Batch(pixels, sizes, gt, ids, tuple(map(tuple, sizes.tolist())))


@pytest.mark.parametrize(
    "compiled, how", [("True", {"mode": "reduce-overhead"}), ("False", {"backend": "cudagraphs"})]
)
def test_on_a_gpu_backbone_and_head_are_recorded_with_fixed_sizes(tiny, asked, gpu, compiled, how):
    model = build_model(tiny(*GRAPHS, "MODEL.COMPILE", compiled), 3)
    assert asked == [(part, {**how, "dynamic": False}) for part in (model.backbone, model.head)]
    assert torch._dynamo.config.recompile_limit >= 2 * cuda_graphs.SIZES


@pytest.mark.parametrize("compiled", [True, False])
def test_on_a_cpu_a_line_says_that_nothing_is_recorded(tiny, asked, caplog, compiled):
    model = build_model(tiny(*GRAPHS, "MODEL.COMPILE", str(compiled)), 3)
    parts = [model.backbone, model.head] if compiled else []
    assert asked == [(part, {}) for part in parts] and model.graphs is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "MODEL.CUDA_GRAPHS" in record.getMessage()
    caplog.clear()
    build_model(tiny(), 3)
    assert not caplog.records


def test_a_restored_model_is_not_recorded(tiny):
    used = for_prediction(tiny(*GRAPHS, "MODEL.COMPILE", "True"))
    assert not used.MODEL.CUDA_GRAPHS and not used.MODEL.COMPILE


@pytest.fixture
def backend(monkeypatch, gpu):
    """Compiles by a backend for CPUs in place of CUDA graphs. Lists the compiled graphs."""
    from torch._dynamo.backends.registry import lookup_backend

    compiled = []

    def compile_graph(graph, inputs):
        compiled.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    original = nn.Module.compile
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self, **how: original(self, backend=compile_graph, dynamic=False),
    )
    torch._dynamo.reset()
    yield compiled
    torch._dynamo.reset()


def train(cfg, model, batches, ema=None):
    lines = []
    Trainer(
        model=model,
        loader=batches,
        optimizer=build_optimizer(cfg, model),
        lr_factor=build_lr_factor(cfg),
        device=torch.device("cpu"),
        save=lambda iteration: None,
        log=lines.append,
        evaluate=lambda iteration: None,
        start=0,
        stop=len(batches),
        ema=ema,
        log_period=1,
    ).train()
    return lines


def made(cfg):
    torch.manual_seed(0)
    return build_model(cfg, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [(), ("SOLVER.ACCUMULATE", "2", "MODEL.CHANNELS_LAST", "True")],
    ids=["plain", "accumulate, channels_last"],
)
def test_a_recorded_training_is_the_training(tiny, backend, overrides):
    settings = (
        tiny(*overrides, "SOLVER.BASE_LR", "0.001"),
        tiny(*overrides, "SOLVER.BASE_LR", "0.001", *GRAPHS),
    )
    batches = [a_batch(), a_batch(96, 64) if not overrides else a_batch(), a_batch()]
    plain, recorded = map(made, settings)
    assert recorded.graphs is not None and plain.graphs is None
    average = averaged_model(recorded, 0.5)
    expected = train(settings[0], plain, batches)
    assert not backend
    lines = train(settings[1], recorded, batches, average)
    assert len(backend) >= (2 if overrides else 4)  # two modules, at two sizes
    for line, other in zip(lines, expected, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert list(recorded.state_dict()) == list(plain.state_dict())
    for name, x in recorded.state_dict().items():
        torch.testing.assert_close(x, plain.state_dict()[name], rtol=1e-4, atol=1e-4)
    # Tests compile nothing, whatever their sizes.
    count = len(backend)
    with torch.inference_mode():
        for model in (recorded.eval(), average.module.eval()):
            found = model(a_batch(96, 96))
            assert len(found) == 2
    recorded.train()
    recorded.largest_logit(a_batch(32, 96))
    assert len(backend) == count


@pytest.mark.slow
def test_a_size_beyond_the_limit_runs_without_graph_and_a_line_says_so(
    tiny, backend, monkeypatch, caplog
):
    monkeypatch.setattr(cuda_graphs, "SIZES", 1)
    cfg = tiny(*GRAPHS)
    sizes = [(64, 96), (96, 96), (64, 96), (64, 128)]
    with caplog.at_level(logging.INFO, LINES):
        train(cfg, made(cfg), [a_batch(*size) for size in sizes])
    assert len(backend) == 2  # body and head
    first, warning = [r.getMessage() for r in caplog.records if r.name == LINES]
    assert "64 x 96" in first
    for part in ("MODEL.CUDA_GRAPHS", "96 x 96", "INPUT.LSJ", "DATALOADER.SIZE_DIVISIBILITY"):
        assert part in warning


def test_each_step_begins_once_also_in_parts(tiny, asked, gpu, monkeypatch):
    events = []
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("begins")
    )
    cfg = tiny(*GRAPHS, "SOLVER.ACCUMULATE", "2")
    model = made(cfg)
    model.backbone.register_forward_pre_hook(lambda *_: events.append("body"))
    model.head.register_forward_pre_hook(lambda *_: events.append("head"))
    train(cfg, model, [a_batch(), a_batch()])
    # Two parts, and the first one again in the backward pass.
    assert events == ["begins", *["body", "head"] * 3] * 2
    events.clear()
    with torch.inference_mode():
        model.eval()(a_batch())
    assert events == ["body", "head"]


def test_a_skipped_graph_is_reported_once(tiny, asked, gpu, monkeypatch, caplog):
    from torch._dynamo.utils import counters

    cfg = tiny(*GRAPHS)
    model = made(cfg)
    train(cfg, model, [a_batch()])
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]
    monkeypatch.setitem(counters["inductor"], "cudagraph_skips", 1)
    train(cfg, model, [a_batch()] * 2)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "MODEL.CUDA_GRAPHS" in warning and "TORCH_LOGS" in warning


@pytest.mark.slow
def test_distributed_data_parallel_trains_a_recorded_model(tiny, backend, tmp_path):
    cfg = tiny(*GRAPHS)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = made(cfg)
        parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
        lines = train(cfg, parallel, [a_batch()] * 2)
    finally:
        torch.distributed.destroy_process_group()
    plain = tiny()
    expected = train(plain, made(plain), [a_batch()] * 2)
    assert backend and [x["loss"] for x in lines] == pytest.approx(
        [x["loss"] for x in expected], rel=1e-3
    )


def test_a_copy_of_the_model_has_graphs_of_its_own(tiny, asked, gpu):
    model = made(tiny(*GRAPHS))
    copied = averaged_model(model, 0.5).module
    assert copied.graphs is not model.graphs
    batch = replace(a_batch(), iteration=0)
    with torch.inference_mode():
        assert len(copied.eval()(batch)) == 2
