"""Tests the suggestion of the nearest name, and that there is none if no name is similar."""

from pathlib import Path

import pytest

from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint, nearest, nearest_path, path_advice
from dynamic_atss.weights.urls import weight_url

KNOWN = ["SOLVER.BASE_LR", "SOLVER.MAX_ITER", "MODEL.ATSS.TOPK", "a/MSRA/R-50", "a/FAIR/X-101"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("base_lr", "SOLVER.BASE_LR"),
        ("atss.topk", "MODEL.ATSS.TOPK"),
        ("MSRA/R50", "a/MSRA/R-50"),
        ("", None),
        ("qwertz", None),
        ("SOMETHING.QUITE.DIFFERENT", None),
    ],
)
def test_nearest(name, found):
    assert nearest(name, KNOWN) == found


def test_the_nearest_path(tmp_path):
    (tmp_path / "my" / "images").mkdir(parents=True)
    (tmp_path / "my" / "train.json").write_text("{}")
    for wrong, right in (
        ("my/trian.json", "my/train.json"),
        ("mmy/train.json", "my/train.json"),
        ("my/image", "my/images"),
        ("my/elsewhere.yaml", None),
        ("mmy/trian.json", None),  # two parts are wrong
        ("my/train.json/x.json", None),
    ):
        wanted = right and tmp_path / right
        assert nearest_path(tmp_path / wrong) == wanted
        assert str(wanted or "check the path") in path_advice(tmp_path / wrong)
    assert nearest_path(tmp_path / "my") is None  # it exists


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pth").touch()
    assert nearest_path(Path("modle.pth")) == Path("model.pth")


def test_nothing_known():
    assert nearest("x", []) is None and hint("x", [], "; {}") == ""
    assert hint("MAX_ITERS", KNOWN, "; near: {}") == "; near: SOLVER.MAX_ITER"


def test_messages_without_a_suggestion():
    with pytest.raises(UserError) as caught:
        load_config(None, ["QWERTZ", "1"])
    assert str(caught.value).startswith("command line: unknown key QWERTZ; dynamic_atss/config")
    with pytest.raises(UserError, match="not in the catalog, which has ImageNetPretrained/MSRA"):
        weight_url("catalog://qwertz")
