"""Tests the suggestion of the nearest name, and that there is none if no name is similar."""

import pytest

from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint, nearest
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


def test_nothing_known():
    assert nearest("x", []) is None and hint("x", [], "; {}") == ""
    assert hint("MAX_ITERS", KNOWN, "; near: {}") == "; near: SOLVER.MAX_ITER"


def test_messages_without_a_suggestion():
    with pytest.raises(UserError) as caught:
        load_config(None, ["QWERTZ", "1"])
    assert str(caught.value).startswith("command line: unknown key QWERTZ; dynamic_atss/config")
    with pytest.raises(UserError, match="not in the catalog, which has ImageNetPretrained/MSRA"):
        weight_url("catalog://qwertz")
