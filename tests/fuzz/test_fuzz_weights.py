"""Reads damaged archives, streams and pickles with every function for weights."""

import io
import pickle
import struct

import numpy as np
import pytest
import torch
from helpers_fuzz import REFUSED, damaged, outcome, spoilt
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.engine.checkpoint import load_checkpoint, save_checkpoint
from dynamic_atss.weights import identify, read_file
from dynamic_atss.weights.convert import convert_file

pytestmark = pytest.mark.slow

BODY = "backbone.body.stem.conv1.weight"
STATE = {BODY: torch.arange(24.0).view(2, 3, 2, 2), "head.cls_logits.bias": torch.zeros(3).half()}
CONTENT = {
    "model": STATE,
    "format": 1,
    "iteration": 7,
    "classes": ["cat", "dog", "cow"],
    "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
}
CAFFE2 = {"blobs": {"conv1_w": np.ones((2, 3, 2, 2), np.float32), "res2_0_branch1_w": np.zeros(3)}}


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors():
    header = b'{"%s":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}' % BODY.encode()
    return struct.pack("<Q", len(header)) + header + bytes(24)


FILES = [
    saved(CONTENT),
    saved(CONTENT, _use_new_zipfile_serialization=False),
    saved(STATE),
    *(pickle.dumps(CAFFE2, protocol) for protocol in (0, 2, 4)),
    pickle.dumps(CONTENT, 2),
    safetensors(),
]
CODES = sorted(
    code
    for name in pickle.__all__
    if len(name) > 2 and isinstance(code := getattr(pickle, name), bytes)
)
NAMES = [
    b"cposix\nsystem\n",
    b"c__builtin__\neval\n",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"c_codecs\nencode\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"c__builtin__\nset\n",
]
VALUES = [
    b"K\x01",
    b"J\xff\xff\xff\x7f",
    b"X\x01\x00\x00\x00a",
    b"U\x02f4",
    b"\x8a\x09" + b"\x7f" * 9,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def checkpoint(folder):
    """Returns the bytes of a checkpoint of a run."""
    path = folder / "model_0000007.pth"
    save_checkpoint(path, CONTENT)
    return path.read_bytes()


def read(path, data):
    """Reads a weight file and checks its entries, unless it is refused."""
    path.write_bytes(data)
    content = outcome(read_file, path)
    source = REFUSED if content is REFUSED else outcome(identify, content, path)
    if source is not REFUSED:
        assert all(isinstance(x, torch.Tensor) for x in source.tensors.values())
        assert set(source.tensors) == set(source.origin)
        assert all(isinstance(name, str) for name in source.classes)


@given(data=damaged(FILES))
def test_damaged_files(folder, data):
    read(folder / "a.pth", data)


@given(parts=st.lists(st.sampled_from(CODES) | st.sampled_from(NAMES + VALUES), max_size=14))
def test_pickles_of_any_operations(folder, parts):
    read(folder / "b.pkl", b"\x80\x04" + b"".join(parts) + b".")


@given(content=spoilt({**CONTENT, "meta": {"CLASSES": ["a"], "config": "x = 1"}}))
def test_contents_of_any_kind(folder, content):
    read(folder / "c.pth", saved(content))


@given(data=st.data())
def test_checkpoints_are_intact_or_refused(folder, checkpoint, data):
    path = folder / "model_0000008.pth"
    path.write_bytes(data.draw(damaged([checkpoint])))
    found = outcome(load_checkpoint, path)
    assert found is REFUSED or all(found["model"][k].equal(v) for k, v in STATE.items())


@given(data=damaged(FILES), form=st.sampled_from(["published", "project"]), strip=st.booleans())
def test_conversion(folder, data, form, strip):
    path = folder / "d.pth"
    path.write_bytes(data)
    outcome(convert_file, path, folder / "e.pth", form, strip=strip, overwrite=True)
