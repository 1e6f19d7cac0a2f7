"""Weight files as trainers save them: read without importing or calling what they name."""

import argparse
import collections
import datetime
import itertools
import logging
import pathlib
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.errors import UserError
from dynamic_atss.weights import convert_file, read_file
from dynamic_atss.weights.find_weights import bare_names, find_state
from dynamic_atss.weights.formats import identify
from dynamic_atss.weights.unpickle import read_weights

BODY = "backbone.body.stem.conv1.weight"
NAMES = (BODY, "rpn.head.cls_tower.0.weight", "rpn.head.scales.0.scale")


class History:
    """Holds values and bound methods, as mmengine's buffers do."""

    def __init__(self):
        self.values, self.methods = np.ones(3), {"mean": self.mean}

    def mean(self):
        return self.values.mean()

    def __setstate__(self, state):
        raise AssertionError("code of the file ran")


class Weights(torch.Tensor):
    pass


def _state(prefix=""):
    values = torch.arange(24.0).reshape(2, 3, 2, 2), torch.ones(4), torch.tensor([2.5])
    return {prefix + name: value for name, value in zip(NAMES, values, strict=True)}


def _numpy(state):
    return {name: value.numpy() for name, value in state.items()}


def _check(path, unused=()):
    source = identify(read_weights(path), path)
    wanted = identify({"model": _state()}, path).tensors
    assert source.tensors.keys() == wanted.keys()
    assert all(source.tensors[name].equal(value) for name, value in wanted.items())
    assert list(source.ignored) == list(unused)
    return source


FILES = {
    "numpy number": {"model": _state(), "best_ap": np.float64(0.37)},
    "numpy array": {"model": _state(), "per_class": np.ones(3)},
    "numpy objects": {"model": _state(), "names": np.array(["a", None], dtype=object)},
    "numpy texts": {"model": _state(), "names": np.array(["a", "bc"])},
    "numpy weights": {"model": _numpy(_state())},
    "numpy weights at the top": _numpy(_state()),
    "namespace": {"model": _state(), "args": argparse.Namespace(lr=1e-4)},
    "yacs": {"model": _state(), "cfg": CfgNode({"LR": 0.1, "A": CfgNode({"B": 1})})},
    "defaultdict": {"model": _state(), "metrics": collections.defaultdict(list, {"a": [1]})},
    "date and path": {
        "model": _state(),
        "date": datetime.datetime(2024, 1, 1),
        "dir": pathlib.PurePosixPath("/x"),
    },
    "iterator": {"model": _state(), "sampler": iter([1, 2])},
    "odd keys": {"model": _state(), 3: 4, None: 5, (1, "a"): 6},
    "mmengine": {"state_dict": _state(), "message_hub": {"log": History()}, "meta": {"epoch": 3}},
    "compiled": {"model": _state("_orig_mod.")},
    "compiled, parallel": {"model": _state("module._orig_mod.")},
    "parallel, compiled, Lightning": {"state_dict": _state("module._orig_mod.model.")},
    "model_state": {"model_state": _state(), "optimizer_state": {"state": {0: torch.ones(2)}}},
    "model_state_dict": {"model_state_dict": _state()},
    "weights": {"weights": _state()},
    "ema": {"ema": _state(), "updates": 3},
    "ema, module": {"ema": {"module": _state(), "updates": 3, "decay": torch.tensor(0.9)}},
    "ema, module, parallel": {"ema": {"module": _state("module.")}},
    "parameters": {"model": {n: nn.Parameter(v) for n, v in _state().items()}},
    "subclass": {"model": {n: v.as_subclass(Weights) for n, v in _state().items()}},
    "next to the weights": {**_state(), "epoch": 3, "args": argparse.Namespace()},
}


@pytest.mark.parametrize("form", ["zip", "stream", "pickle 2", "pickle 5"])
@pytest.mark.parametrize("name", list(FILES))
def test_trainers_files_give_their_weights(tmp_path, name, form):
    path = tmp_path / "x.pth"
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(FILES[name], int(form[-1])))
    else:
        torch.save(FILES[name], path, _use_new_zipfile_serialization=form == "zip")
    _check(path, ["epoch", "args"] if name == "next to the weights" else [])


def test_a_module_that_a_file_names_is_not_imported(tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    (tmp_path / "trainers_code.py").write_text(
        f"open({str(marker)!r}, 'w')\nclass Config:\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # {"model": ..., "c": trainers_code.Config()} in protocol 0: a class by name, then its state.
    plain = pickle.dumps({"model": _numpy(_state())}, 0)
    path = tmp_path / "x.pkl"
    path.write_bytes(plain[:-1] + b"S'c'\n(itrainers_code\nConfig\n(dS'a'\nI1\nsbs.")
    _check(path)
    assert not marker.exists()


def test_skipped_objects_are_logged_at_debug_level(tmp_path, caplog):
    content = {**FILES["namespace"], "history": [History()], "odd": FILES["numpy objects"]["names"]}
    torch.save(content, tmp_path / "x.pth")
    with caplog.at_level(logging.DEBUG, "dynamic_atss.weights"):
        read_weights(tmp_path / "x.pth")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    for name in ("argparse.Namespace", "test_trainers_files.History", "numpy array of dtype 'O8'"):
        assert name in record.message


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.uint16]
)
@pytest.mark.parametrize("form", ["zip", "stream"])
def test_tensors_of_every_type_and_layout(tmp_path, dtype, form):
    matrix = torch.arange(24).reshape(4, 6).to(dtype)
    tensors = {
        "matrix": matrix,
        "part": matrix[1:3, 2:],
        "transposed": matrix.t(),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "number": torch.tensor(3).to(dtype),
    }
    path = tmp_path / "x.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    got = read_weights(path)
    for name, want in tensors.items():
        assert got[name].dtype == want.dtype and got[name].shape == want.shape
        assert got[name].float().equal(want.float()), name
    shared = got["matrix"].untyped_storage().data_ptr()
    assert got["part"].untyped_storage().data_ptr() == shared


def test_plain_values_are_read_as_they_were(tmp_path):
    content = {
        "tuple": (0.9, 0.999),
        "counter": collections.Counter({5: 2}),
        "set": {1, 2},
        "bytes": b"\xff\x00",
        "complex": 1 + 2j,
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "ordered": collections.OrderedDict(b=1, a=2),
        7: [None, True, 2**70],
    }
    torch.save(content, tmp_path / "x.pth")
    got = read_weights(tmp_path / "x.pth")
    assert got == content and [type(v) for v in got.values()] == [type(v) for v in content.values()]


PREFIXES = ["module", "_orig_mod", "model", "net", "_fsdp_wrapped_module", "averaged_model"]


@pytest.mark.parametrize("prefix", list(itertools.permutations(PREFIXES, 3)), ids=".".join)
def test_wrappers_are_stripped_in_any_order(prefix):
    names = [".".join([*prefix, name]) for name in NAMES]
    bare, notes = bare_names(names, "x.pth")
    assert list(bare.values()) == list(NAMES) and notes == []


def test_wrappers_of_submodules_are_stripped():
    names = ["backbone._orig_mod.body.x.weight", "head._fsdp_wrapped_module.y.weight"]
    assert list(bare_names(names, "x")[0].values()) == ["backbone.body.x.weight", "head.y.weight"]


def test_entries_outside_of_the_wrapper_are_ignored(tmp_path):
    averaged = {"n_averaged": torch.tensor(7), **_state("module.")}
    torch.save(averaged, tmp_path / "averaged.pth")
    _check(tmp_path / "averaged.pth", ["n_averaged"])
    lightning = {**_state("model."), "loss.weight": torch.ones(2)}
    content = {"state_dict": lightning, "hyper_parameters": {"lr": 1}, "loops": History()}
    torch.save(content, tmp_path / "lightning.pth")
    _check(tmp_path / "lightning.pth", ["loss.weight"])


def test_a_key_chooses_the_averaged_model_instead_of_the_trained_one(tmp_path):
    other = {name: value + 1 for name, value in _state().items()}
    path = tmp_path / "x.pth"
    torch.save({"ema": {"module": other}, "model": _state()}, path)
    (note,) = _check(path).notes
    assert "'model' are taken, not those under ema.module" in note and f"{path}#ema.module" in note
    for key in ("ema", "ema.module"):
        chosen = identify(read_file(tmp_path / f"x.pth#{key}"), path)
        assert chosen.tensors[BODY].equal(other[BODY]) and chosen.notes == []
    torch.save(
        {"state_dict": _state("model.") | {f"ema_model.{n}": v for n, v in other.items()}}, path
    )
    source = identify(read_file(path), path)
    assert source.tensors[BODY].equal(_state()[BODY])
    assert f"{path}#ema_model" in source.notes[0] and len(source.ignored) == len(NAMES)
    chosen = identify(read_file(tmp_path / "x.pth#ema_model"), path)
    assert chosen.tensors[BODY].equal(other[BODY])
    with pytest.raises(
        UserError, match=r"x\.pth#teacher: .* no weights under 'teacher'; its keys: st"
    ):
        read_file(tmp_path / "x.pth#teacher")


def test_a_file_name_may_have_the_mark_of_a_key(tmp_path):
    torch.save({"model": _state()}, tmp_path / "run#3.pth")
    assert find_state(read_file(tmp_path / "run#3.pth"), "x").keys == ("model",)
    torch.save({"model": {}, "mine": _state()}, tmp_path / "run.pth")
    assert list(read_file(tmp_path / "run.pth#mine")["model"]) == list(NAMES)


def test_averages_without_names_are_noted_or_refused(tmp_path):
    shadow = {"decay": 0.99, "shadow_params": list(_state().values()), "collected_params": None}
    path = tmp_path / "x.pth"
    torch.save({"model": _state(), "ema": shadow}, path)
    (note,) = _check(path).notes
    assert "ema was not read: a list of weights without names" in note
    for content in ({"ema": shadow}, shadow):
        torch.save(content, path)
        with pytest.raises(UserError, match="a list of weights without names"):
            identify(read_file(path), path)


def test_skipped_objects_are_not_written_into_a_converted_file(tmp_path):
    content = {"ema": _state(), "args": argparse.Namespace(), "log": [History(), np.float64(0.5)]}
    content["per_class"] = np.ones(3)
    torch.save(content, tmp_path / "x.pth")
    convert_file(tmp_path / "x.pth", tmp_path / "y.pth", "published", overwrite=False)
    got = torch.load(tmp_path / "y.pth", weights_only=True)
    assert list(got) == ["log", "per_class", "model"] and got["log"] == [None, 0.5]
    assert got["per_class"].tolist() == [1, 1, 1] and list(got["model"]) == list(NAMES)


def test_a_parameter_without_dimensions(tmp_path):
    entries = {"scale": torch.nn.Parameter(torch.tensor(2.5)), "bias": torch.zeros(3)}
    torch.save({"model": entries}, tmp_path / "w.pth")
    assert read_file(tmp_path / "w.pth")["model"]["scale"].item() == 2.5
