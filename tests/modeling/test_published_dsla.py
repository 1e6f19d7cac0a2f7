"""Compares the DSLA head, loaded from published names, with a plain forward pass."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.weights.loading import load_weights

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs/dsla"
STRIDES = (8, 16, 32, 64, 128)
FILES = {"dsla_R_50_FPN_1x": "r50_as_logged", "dsla_dcn_R_101_FPN_2x": "r101_as_logged"}


def weights(entries):
    """Makes random weights that keep the size of the signal, and positive variances."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape, dtype, *_ in entries:
        value = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            value = value / torch.tensor(shape[1:]).prod().sqrt()
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        if "scale" in name:
            value = 1 + 0.1 * value
        made[name] = value.to(getattr(torch, dtype))
    return made


def branch(state, name, x):
    """Computes tower `name` ("cls" or "reg") of the file and its last convolution."""
    for i in range(4):
        prefix = f"bbox_head.{name}_convs.{i}"
        weight, bias = state[f"{prefix}.conv.weight"], state.get(f"{prefix}.conv.bias")
        offset = f"{prefix}.conv.conv_offset"
        if f"{offset}.weight" in state:
            predicted = F.conv2d(x, state[f"{offset}.weight"], state[f"{offset}.bias"], padding=1)
            x = deform_conv2d(
                x, predicted[:, :18], weight, bias, padding=1, mask=predicted[:, 18:].sigmoid()
            )
        else:
            x = F.conv2d(x, weight, bias, padding=1)
        x = F.group_norm(x, 32, state[f"{prefix}.gn.weight"], state[f"{prefix}.gn.bias"])
        x = x.relu()
    last = f"bbox_head.conv_{name}"
    return F.conv2d(x, state[f"{last}.weight"], state[f"{last}.bias"], padding=1)


@pytest.mark.parametrize("config", FILES)
def test_forward(golden, tmp_path, config):
    path = golden / "dsla_state_dicts.json"
    state = weights(json.loads(path.read_text())[FILES[config]]["entries"])
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, tmp_path / "dsla.pth")
    model = build_model(load_config(CONFIGS / f"{config}.yaml"), 80).eval()
    report = load_weights(model, tmp_path / "dsla.pth")
    assert not report.initial
    assert all(name.endswith("num_batches_tracked") for name in report.unused)

    sizes = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 256, h, w, generator=generator) for h, w in sizes]
    with torch.inference_mode():
        output = model.head(maps)
        priors = model.priors(output.sizes, torch.device("cpu"))
        boxes = model.criterion.coder.decode(output.deltas, priors.boxes)
        logits = [branch(state, "cls", x).flatten(2).transpose(1, 2) for x in maps]
        distances = [branch(state, "reg", x) for x in maps]
    assert output.quality is None
    torch.testing.assert_close(output.logits, torch.cat(logits, 1), rtol=1e-4, atol=1e-4)
    expected = []
    for i, (x, stride) in enumerate(zip(distances, STRIDES, strict=True)):
        x = x * state[f"bbox_head.scales.{i}.scale"]
        x = x.exp() if config == "dsla_R_50_FPN_1x" else x.relu() * stride
        left, top, right, bottom = x.unbind(1)
        row, column = torch.meshgrid(
            *(torch.arange(n) * stride for n in x.shape[2:]), indexing="ij"
        )
        sides = (column - left, row - top, column + right, row + bottom)
        expected.append(torch.stack(sides, -1).flatten(1, 2))
    torch.testing.assert_close(boxes, torch.cat(expected, 1), rtol=1e-4, atol=1e-2)
