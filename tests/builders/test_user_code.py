"""Names of code in the configuration: which are accepted, and which are refused without a call."""

import re
import sys

import pytest
import yaml
from helpers_run import run_tool, write_config

from dynamic_atss.builders import (
    build_backbone,
    build_test_loaders,
    build_train_dataset,
    check_config,
)
from dynamic_atss.builders.user_code import construct, find
from dynamic_atss.config.load import load_config
from dynamic_atss.config.special_keys import CODE_KEYS, DATA_FORMATS
from dynamic_atss.data.catalog import FORMATS
from dynamic_atss.errors import UserError

pytestmark = pytest.mark.slow

HEAD = ("MODEL.ATSS_ON", "True")
FIT = {
    "MODEL.BOX_LOSS": ("run",),
    "INPUT.AUGMENTATIONS": ("run", "runpy:run_path"),
}
LISTS = ("INPUT.AUGMENTATIONS", "DATASETS.TRAIN", "DATASETS.TEST")


@pytest.fixture
def code(tmp_path):
    """Writes code that leaves one mark when it is imported, and another when it is called."""
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
    """Returns the name in the form of the key's value."""
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
        return  # an accepted function is called only when it is needed
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
class Rule:
    soft_labels, quality_name, needs_size = False, "x", False
class Three(Rule):
    def __call__(self, a, b, c, d=0): ...
class Static(Rule):
    @staticmethod
    def __call__(a, b, c): ...
class Four:
    def __init__(self): raise SystemError("made")
    def __call__(self, a, b, c, d): ...
class Module(Rule, nn.Module):
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
            ["Three", "Static", "Module"],
            ["one", "five", "three_and_more", "Four", "Empty"],
        ),
        ("MODEL.ASSIGNER.NAME", ["Three", "Static", "Module"], ["Four", "Empty"]),
    ],
)
def test_what_is_called_with_other_arguments(key, fits, others, tmp_path):
    """They are refused before anything is made or called."""
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


@pytest.mark.parametrize(
    ("text", "line", "kind"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError"),
        ("def five(:\n    pass\n", 1, "SyntaxError"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
    ],
)
@pytest.mark.parametrize("key", CODE_KEYS)
def test_a_file_that_fails_when_it_is_imported(key, text, line, kind, tmp_path):
    """The file exists, so the message names its line and advises no other path."""
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check_config(load_config(None, (*HEAD, key, value_of(key, f"{path}:Name")[1])))
    message = str(caught.value)
    assert message.startswith(f"{key} '{path}:Name': {path} cannot be imported ({kind}: ")
    assert f"({path}:{line}); correct the file" in message.replace("))", ")")
    assert "PYTHONPATH" not in message


def test_a_class_that_fails_when_it_is_made(tmp_path):
    path = tmp_path / "rule.py"
    path.write_text(
        "class Rule:\n"
        "    soft_labels, quality_name, needs_size = False, 'x', False\n"
        "    def __init__(self, count):\n"
        "        self.count = int(count)\n"
        "    def __call__(self, priors, gt, predictions): ...\n"
    )
    overrides = ("MODEL.ASSIGNER.NAME", f"{path}:Rule", "MODEL.ASSIGNER.ARGS.count", "many")
    with pytest.raises(UserError) as caught:
        check_config(load_config(None, (*HEAD, *overrides)))
    assert f"{path}:Rule: ValueError: invalid literal" in str(caught.value)
    assert str(caught.value).endswith(f"({path}:4)")


def test_arguments_may_have_any_name(tmp_path):
    names = ("key", "name", "make", "given", "arguments")
    (tmp_path / "any.py").write_text(f"class Any:\n    def __init__(self, {', '.join(names)}): ...")
    found = find("KEY", f"{tmp_path}/any.py:Any", {})
    assert isinstance(construct("KEY", "Any", found, **dict.fromkeys(names, 1)), found)


@pytest.mark.parametrize("key", [key for key in CODE_KEYS if not key.startswith("DATASETS")])
def test_a_module_with_the_name_of_a_format(key, tmp_path, monkeypatch):
    """Only names of data sets may begin with a format."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree_of(key, value_of(key, "coco:R")[0])))
    with pytest.raises(UserError, match=f"{key} 'coco:R' is code"):
        load_config(config, HEAD)
    (tmp_path / "coco.py").write_text("class Other: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "coco", raising=False)
    with pytest.raises(UserError, match=f"{key} 'coco:R': coco defines no class"):
        check_config(load_config(config, HEAD, allow_code=True))
    del sys.modules["coco"]


def test_a_file_that_imports_its_neighbour(tmp_path):
    path = tmp_path / "rule.py"
    path.write_text("import neighbour_of_rule.part\nclass Rule: ...\n")
    (tmp_path / "neighbour_of_rule.py").write_text("")
    cfg = load_config(None, (*HEAD, "MODEL.ASSIGNER.NAME", f"{path}:Rule"))
    with pytest.raises(UserError) as caught:
        check_config(cfg)
    message = str(caught.value)
    assert "No module named 'neighbour_of_rule'" in message
    assert message.endswith(f"neighbour_of_rule is in the same folder: set PYTHONPATH={tmp_path}")
    (tmp_path / "neighbour_of_rule.py").unlink()
    with pytest.raises(UserError, match=r"correct the file$"):
        check_config(cfg)


@pytest.mark.parametrize("key", CODE_KEYS)
def test_a_name_that_is_none_lists_what_there_is(key):
    """The list is never empty, and there is no hint if no name is similar."""
    with pytest.raises(UserError) as caught:
        cfg = load_config(None, (*HEAD, key, "('zebra',)" if key in LISTS else "zebra"))
        check_config(cfg)
        build_backbone(cfg)
        build_test_loaders(cfg) if key.endswith("TEST") else build_train_dataset(cfg)
    message = str(caught.value)
    assert message.startswith(key) and "'zebra'" in message and "nearest" not in message
    if key.startswith("DATASETS"):
        assert "names are coco_2017_train, " in message and "coco:<annotations.json>" in message
    elif key == "INPUT.AUGMENTATIONS":
        assert 'no such name; give code of your own, as "path/to/file.py:Name"' in message
    else:
        assert re.search("accepted are [A-Za-z]", message)


@pytest.mark.parametrize("key", ["DATASETS.TRAIN", "DATASETS.TEST"])
@pytest.mark.parametrize("typed", ["COCO", "Coco", "cocco", "VOC", "vocc"])
def test_a_format_that_is_mistyped(key, typed, tmp_path):
    """This holds in a configuration file too, where a module would need --allow-code."""
    right = "coco" if typed.lower().startswith("coc") else "voc"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree_of(key, [f"{typed}:a:b"])))
    for file, overrides in ((config, HEAD), (None, (*HEAD, key, f"('{typed}:a:b',)"))):
        with pytest.raises(UserError) as caught:
            load_config(file, overrides)
        message = str(caught.value)
        assert message.startswith(f"{key} '{typed}:a:b': there is no data format {typed!r}")
        assert f"the nearest is {right!r}, as {right}:a:b" in message
        assert ".py" not in message and "--allow-code" not in message


def test_a_module_whose_name_is_like_a_formats(tmp_path, monkeypatch):
    (tmp_path / "voc2.py").write_text("class Plain: ...\n")
    monkeypatch.chdir(tmp_path)
    cfg = load_config(None, (*HEAD, "DATASETS.TRAIN", "('voc2:Plain:a:b',)"))
    with pytest.raises(UserError, match=r"^DATASETS.TRAIN 'voc2:Plain': is no .*DetectionDataset"):
        check_config(cfg)


def test_a_runs_own_config_holds_from_another_folder(tmp_path):
    """Relative paths of rules, augmentations and formats become absolute."""
    here, there, run = tmp_path / "here", tmp_path / "there", tmp_path / "run"
    config = write_config(tmp_path)
    for folder in (here / "code", there):
        folder.mkdir(parents=True)
    (here / "code" / "own.py").write_text(
        "from dynamic_atss.assigners.rules.atss import ATSS\n"
        "from dynamic_atss.data.coco import CocoDataset\n"
        "class Rule(ATSS): ...\n"
        "class Data(CocoDataset): ...\n"
        "def change(image, gt, rng): return image, gt\n"
    )
    shapes = f"{config[3]}/shapes"
    test_set = f"('code/own.py:Data:{shapes}/annotations/val.json:{shapes}/val', 'shapes_val')"
    overrides = ["MODEL.ASSIGNER.NAME", "code/own.py:Rule", "DATASETS.TEST", test_set]
    overrides += ["INPUT.AUGMENTATIONS", "('./code/../code/own.py:change',)"]
    args = [*config, *overrides, "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", run]
    trained = run_tool("train_net", [*args, "--skip-test"], cwd=here)
    assert trained.returncode == 0, trained.stderr
    saved = ["--config-file", run / "config.yaml", "--allow-code"]
    result = run_tool("test_net", saved, cwd=there)
    assert result.returncode == 0, result.stderr
    assert (run / "inference/val/bbox.json").is_file()
    cfg = load_config(run / "config.yaml", allow_code=True)
    rule = cfg.MODEL.ASSIGNER.NAME
    assert rule == f"{here}/code/own.py:Rule"
    assert cfg.DATASETS.TEST[1] == "shapes_val" and cfg.DATASETS.TRAIN == ("shapes_train",)
    resumed = run_tool("train_net", [*args, "--skip-test", "--resume"], cwd=here)
    assert resumed.returncode == 0 and "differs" not in (run / "log.txt").read_text()
