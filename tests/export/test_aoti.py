"""The writer and reader of AOTInductor packages, on a network of one layer: a detector compiles for
minutes."""

import json
import os
import shutil

import pytest
import torch
from torch import nn

from dynamic_atss.export.torch_file import aoti_runner, write_aoti


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Linear(4, 3)

    def forward(self, images):
        return self.weights(images.to(torch.float32)).relu(), images.sum(1)


@pytest.mark.slow
@pytest.mark.skipif(not (os.environ.get("CXX") or shutil.which("g++")), reason="no C++ compiler")
def test_a_package_computes_for_other_sizes_and_tells_what_it_is(tmp_path):
    torch.manual_seed(0)
    model, batch = Layer().eval(), torch.export.Dim("batch", min=1, max=16)
    given = torch.randint(255, (2, 4), dtype=torch.uint8)
    program = torch.export.export(model, (given,), dynamic_shapes={"images": {0: batch}})
    write_aoti(program, tmp_path / "layer.pt2", {"classes": '["a", "b"]'})
    package = aoti_runner(tmp_path / "layer.pt2")
    for count in (1, 2, 7):
        images = torch.randint(255, (count, 4), dtype=torch.uint8)
        for found, expected in zip(package(images), model(images), strict=True):
            torch.testing.assert_close(found, expected)
    metadata = package.get_metadata()
    assert json.loads(metadata["classes"]) == ["a", "b"]
    assert json.loads(metadata["imports"]) == ["torch"]
