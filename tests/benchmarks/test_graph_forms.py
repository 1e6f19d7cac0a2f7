"""CUDA graphs in inference: what is recorded, and the rows of the detectors' benchmark.

There is no GPU here: a backend for CPUs stands for CUDA graphs.
"""

import importlib

import pytest
import torch
from torch import nn

from dynamic_atss.builders import model as builder
from dynamic_atss.modeling import cuda_graphs


@pytest.fixture(autouse=True)
def small(scripts, monkeypatch):
    """Builds a smaller detector than on a GPU."""
    config = "configs/quickstart/shapes_R_18.yaml"
    monkeypatch.setattr(importlib.import_module("detector_steps"), "CONFIG", config)


@pytest.fixture
def backend(monkeypatch):
    """Compiles by a backend for CPUs. Lists whether each compiled graph computes gradients."""
    from torch._dynamo.backends.registry import lookup_backend

    compiled, limit = [], torch._dynamo.config.recompile_limit

    def compile_graph(graph, inputs):
        compiled.append(torch.is_grad_enabled())
        return lookup_backend("aot_eager")(graph, inputs)

    original = nn.Module.compile
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self, **how: original(self, backend=compile_graph, dynamic=False),
    )
    monkeypatch.setattr(builder, "uses_gpu", lambda cfg: True)
    torch._dynamo.reset()
    yield compiled
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = limit


@pytest.fixture
def recorded(monkeypatch):
    """Gives a function that tells if a pass is recorded."""
    eager = object()
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: eager)
    images = torch.zeros(1, 3, 32, 32)

    def passes(graphs, training, gradient):
        with torch.set_grad_enabled(gradient):
            return graphs.passing(images, training) is not eager

    return passes


@pytest.mark.parametrize("tests", [False, True])
def test_which_passes_are_recorded(recorded, tests):
    graphs = cuda_graphs.CudaGraphs()
    assert graphs.tests is False
    graphs.tests = tests
    found = {
        (training, gradient): recorded(graphs, training, gradient)
        for training in (True, False)
        for gradient in (True, False)
    }
    assert found == {
        (True, True): True,
        (True, False): False,  # a diagnosis
        (False, True): False,
        (False, False): tests,
    }


@pytest.mark.slow
def test_the_graph_forms_have_rows_of_inference(backend, monkeypatch):
    steps = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1))
    module, common = (importlib.import_module(name) for name in ("detectors", "common"))
    monkeypatch.setattr(module, "PEERS", ())
    given = ["--seconds", "0", "--size", "64", "64", "--quick", "--forms", "graphs"]
    args = common.parser("", module.arguments).parse_args(given)
    rows = list(module.rows(args))
    assert [row["stage"] for row in rows] == ["whole train step", "whole inference"]
    assert all(row["case"].endswith(", graphs") and row["ours_s"] > 0 for row in rows)
    assert True in backend and False in backend and steps


@pytest.mark.slow
def test_a_recorded_test_gives_the_detections_of_a_plain_one(backend):
    steps, common = (importlib.import_module(name) for name in ("detector_steps", "common"))
    detectors = importlib.import_module("detectors")
    given = ["--size", "64", "64", "--quick"]
    args = detectors.filled(common.parser("", detectors.arguments).parse_args(given))
    batch = steps.scene(1, (64, 64), 3)
    found = []
    for recorded in (False, True):
        torch.manual_seed(0)
        model = steps.ours(args, detectors.FORMS["graphs"])
        model.graphs.tests = recorded
        steps.spread_scores(model.eval(), lambda model=model: model(batch))
        backend.clear()
        with torch.inference_mode():
            found.append(model.eval()(batch)[0])
        assert bool(backend) == recorded
    plain, other = found
    assert len(plain.scores) > 0
    torch.testing.assert_close(other.scores, plain.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.boxes, plain.boxes, rtol=1e-4, atol=1e-2)
