"""Mistakes in a custom head: one line names the head and what is accepted."""

import pytest

from dynamic_atss.builders import build_model, check_config
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError

RULE = "atss, fcos, dsla"
CRITERION = "is a callable that takes (output, priors, gt, iteration)"


def refused(folder, body):
    path = folder / "own.py"
    path.write_text(
        "from torch import nn\n"
        "from dynamic_atss.builders.heads.atss import ATSSHead\n"
        f"class Own(ATSSHead):\n    {body}\n"
    )
    cfg = load_config(None, ("MODEL.HEAD.NAME", f"{path}:Own", "MODEL.DEVICE", "cpu"))
    with pytest.raises(UserError) as caught:
        check_config(cfg)
        build_model(cfg, 3)
    message = str(caught.value)
    assert message.startswith(("head Own (MODEL.HEAD.NAME): ", f"MODEL.HEAD.NAME '{path}:Own': "))
    assert "\n" not in message
    return message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "wrong", "fits"),
    [
        ("section = 'NOSUCH'", "its section is 'NOSUCH'", "ATSS, FCOS, RETINANET, DSLA"),
        ("def __init__(self, cfg): pass", "has no settings, model", "super().__init__(cfg)"),
        ("def default_rule(self): return 'nosuch'", "is 'nosuch'", RULE),
        ("def default_rule(self): return None", "default_rule gives None", "the name of a rule"),
        ("def priors(self): return None", "its priors gives None", "an AnchorGenerator"),
        ("def priors(self): return lambda s, d: 0", "priors gives function", "`sized`"),
        ("def coder(self): return None", "its coder gives None", "encode(gt_boxes, priors)"),
        ("def coder(self): return 5", "its coder gives int", "decode(deltas, priors)"),
        ("def network(self, c, k): return None", "its network gives None", "torch.nn.Module"),
        ("def network(self, c): ...", "too many positional", "needs (self, channels, classes)"),
        ("def criterion(self, a, c): return None", "its criterion gives None", CRITERION),
        ("def criterion(self, a, c): return lambda o, p, g: {}", "gives function", CRITERION),
        ("def criterion(self, a, c): return nn.Identity()", "gives Identity", CRITERION),
        ("def postprocess(self, c): return print", "gives builtin", "nms=...) and returns Detect"),
    ],
)
def test_what_a_head_lacks(body, wrong, fits, tmp_path):
    message = refused(tmp_path, body)
    assert wrong in message and fits in message.split(wrong)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["priors(self)", "network(self, c, k)", "coder(self)", "criterion(self, a, c)"]
)
def test_a_method_that_fails(method, tmp_path):
    message = refused(tmp_path, f"def {method}:\n        raise KeyError('boo')")
    name = method.partition("(")[0]
    assert f"its {name} fails (KeyError: 'boo' ({tmp_path / 'own.py'}:5))" in message


@pytest.mark.slow
def test_a_criterion_that_is_a_function(tmp_path):
    """A parameter with a default may take the iteration."""
    path = tmp_path / "own.py"
    path.write_text(
        "from dynamic_atss.builders.heads.atss import ATSSHead\n"
        "class Own(ATSSHead):\n"
        "    def criterion(self, a, c):\n"
        "        return lambda o, p, g, i=0: {'loss_own': o.logits.sum()}\n"
    )
    cfg = load_config(None, ("MODEL.HEAD.NAME", f"{path}:Own", "MODEL.DEVICE", "cpu"))
    assert build_model(cfg, 3).criterion.__name__ == "<lambda>"
