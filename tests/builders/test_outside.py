"""Names of code in the configuration: what is let through, and what is refused without a call."""

import pytest
import yaml

from dynamic_atss.builders import check_config
from dynamic_atss.config.defaults import CODE_KEYS, DATA_FORMATS
from dynamic_atss.config.load import load_config
from dynamic_atss.data.catalog import FORMATS
from dynamic_atss.errors import UserError

HEAD = ("MODEL.ATSS_ON", "True")
FIT = {
    "MODEL.BOX_LOSS": ("run",),
    "INPUT.AUGMENTATIONS": ("run", "runpy:run_path"),
}
LISTS = ("INPUT.AUGMENTATIONS", "DATASETS.TRAIN", "DATASETS.TEST")


@pytest.fixture
def code(tmp_path):
    """A file that leaves a mark when it is imported, another when its function is called."""
    path = tmp_path / "code.py"
    path.write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
        "from os import system\n"
        "import subprocess\n"
        "from subprocess import Popen\n"
        "def run(*args, **kwargs):\n"
        f"    Path({str(tmp_path / 'called')!r}).touch()\n"
        "class Plain:\n"
        "    def __init__(self, **kwargs):\n"
        "        run()\n"
    )
    return path


def value_of(key, name):
    """The name as the key takes it, from a file and from the command line."""
    name = f"{name}:rows.csv:images" if key.startswith("DATASETS") else name
    return ([name], f"({name!r},)") if key in LISTS else (name, name)


def tree_of(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def test_the_formats_that_are_no_code():
    assert tuple(FORMATS) == DATA_FORMATS


@pytest.mark.parametrize("key", CODE_KEYS)
def test_a_file_alone_runs_no_code(key, code, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree_of(key, value_of(key, f"{code}:Plain")[0])))
    with pytest.raises(UserError, match="--allow-code") as caught:
        load_config(config, HEAD)
    assert key in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "imported").exists()
    assert load_config(config, HEAD, allow_code=True)


@pytest.mark.parametrize("attribute", ["system", "subprocess", "Popen", "Plain", "run", "nothing"])
@pytest.mark.parametrize("key", CODE_KEYS)
def test_what_does_not_fit_is_not_called(key, attribute, code, tmp_path):
    if attribute in FIT.get(key, ()):
        return  # what fits is called when it is needed
    cfg = load_config(None, (*HEAD, key, value_of(key, f"{code}:{attribute}")[1]))
    with pytest.raises(UserError, match=key.partition(".TRAIN")[0].partition(".TEST")[0]) as caught:
        check_config(cfg)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "imported").exists() and not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:Popen", "builtins:eval", "runpy:run_path"]
)
@pytest.mark.parametrize("key", CODE_KEYS)
def test_modules_of_python(key, name):
    cfg = load_config(None, (*HEAD, key, value_of(key, name)[1]))
    if name in FIT.get(key, ()):
        return
    with pytest.raises(UserError) as caught:
        check_config(cfg)
    assert name in str(caught.value) and "\n" not in str(caught.value)


CALLS = """
from torch import nn
def one(x): raise SystemError("called")
def five(a, b, c, d, e): raise SystemError("called")
def three_and_more(a, b, c, *, d): raise SystemError("called")
class Three:
    def __call__(self, a, b, c, d=0): ...
class Four:
    def __init__(self): raise SystemError("made")
    def __call__(self, a, b, c, d): ...
class Module(nn.Module):
    def forward(self, a, b, c): ...
class Empty(nn.Module):
    def __init__(self): raise SystemError("made")
"""


@pytest.mark.parametrize(
    ("key", "fits", "others"),
    [
        ("MODEL.BOX_LOSS", ["five"], ["one", "three_and_more", "Three", "Four", "Module", "Empty"]),
        (
            "INPUT.AUGMENTATIONS",
            ["Three", "Module"],
            ["one", "five", "three_and_more", "Four", "Empty"],
        ),
    ],
)
def test_what_is_called_with_other_arguments(key, fits, others, tmp_path):
    """Refused before anything is made or called."""
    (tmp_path / "calls.py").write_text(CALLS)

    def check(name):
        value = value_of(key, f"{tmp_path}/calls.py:{name}")[1]
        check_config(load_config(None, (*HEAD, key, value)))

    for name in fits:
        check(name)
    for name in others:
        with pytest.raises(UserError, match=rf"{key} .*{name}'.* is called with \(") as caught:
            check(name)
        assert "made" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["runpy:run_path", "pydoc:Helper", "collections:Counter"])
def test_parts_of_python_are_no_box_loss(name):
    with pytest.raises(UserError, match=r"MODEL.BOX_LOSS .*; a box loss is called with") as caught:
        check_config(load_config(None, (*HEAD, "MODEL.BOX_LOSS", name)))
    assert "\n" not in str(caught.value)
