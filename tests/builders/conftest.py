"""Provides fixtures for comparisons with the published release."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def reference():
    """Gives the reference data. It may lie in the checkout, which travels to a GPU machine."""
    folders = [ROOT.parent / "shared/reference", ROOT / "shared/reference"]
    found = next((folder for folder in folders if folder.is_dir()), None)
    return found or pytest.skip(f"no reference data: {folders[0]} does not exist")


@pytest.fixture(scope="session")
def checkpoint(reference, tmp_path_factory):
    """Writes a checkpoint in the published format. The weights are derived from their names."""
    spec = spec_from_file_location("fill_weights", reference / "fill_weights.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    release = json.loads((reference / "release_state_dicts.json").read_text())
    entries = release["dynamic_atss/dynamic_atss_R_50_FPN_1x"]["state_dict"]
    weights = {
        f"module.{name}": torch.zeros(shape) if "anchor" in name else module.fill(name, shape)
        for name, shape, _ in entries
    }
    path = tmp_path_factory.mktemp("weights") / "dynamic_atss_R_50.pth"
    torch.save({"model": weights}, path)
    return path
