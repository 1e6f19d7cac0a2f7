"""The YAML of every listed checkpoint builds a model with the same names and shapes."""

import json
from pathlib import Path

import pytest
import torch

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.weights.check_shapes import check_fit
from dynamic_atss.weights.formats import identify

CONFIGS = Path(__file__).parents[2] / "configs"
DSLA = {"r50_as_logged": "dsla_R_50_FPN_1x", "r101_as_logged": "dsla_dcn_R_101_FPN_2x"}


def _listed(folder):
    """Maps each YAML name to the names and shapes in its checkpoint."""
    releases = json.loads((folder / "release_state_dicts.json").read_text())
    listed = {yaml: [entry[:2] for entry in r["state_dict"]] for yaml, r in releases.items()}
    dsla = json.loads((folder / "dsla_state_dicts.json").read_text())
    for entry, yaml in DSLA.items():
        listed[f"dsla/{yaml}"] = [row[:2] for row in dsla[entry]["entries"]]
    return listed


@pytest.mark.parametrize(
    "yaml",
    [
        "dynamic_atss/dynamic_atss_R_50_FPN_1x",
        "dynamic_atss/dynamic_atss_X_101_64x4d_FPN_2x",
        "dynamic_atss/dynamic_atss_dcnv2_R_50_FPN_1x",
        "atss/atss_R_50_FPN_1x",
        "fcos/fcos_imprv_R_50_FPN_1x",
        "retinanet/retinanet_R-50-FPN_1x",
        "dsla/dsla_R_50_FPN_1x",
        "dsla/dsla_dcn_R_101_FPN_2x",
    ],
)
def test_checkpoint_fits_the_model_of_its_yaml(golden, yaml):
    listed = _listed(golden)[yaml]
    with torch.device("meta"):  # names and shapes alone
        model = build_model(load_config(str(CONFIGS / f"{yaml}.yaml"), []), 80)
        source = identify({name: torch.empty(shape) for name, shape in listed}, yaml)
    assert check_fit(source, model.state_dict(), Path(yaml), False, []) == set()
    heads = {n: p.numel() for n, p in model.named_parameters() if n.startswith("head.")}
    assert sum(heads.values()) == sum(source.tensors[n].numel() for n in heads)
