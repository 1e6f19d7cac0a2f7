"""Refuses hostile and damaged files by the name that they call, and runs nothing."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch

from dynamic_atss.errors import UserError
from dynamic_atss.weights.unpickle import read_weights


class _Call:
    """An object that pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _hostile(marker):
    dtype = np.dtype("f4")
    return {
        "posix.system": _Call(os.system, f"touch {marker}"),
        "builtins.eval": _Call(eval, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": _Call(getattr, dtype, "newbyteorder"),
        "builtins.exec": _Call(exec, f"open({str(marker)!r}, 'w')"),
        "numpy.fromfile": _Call(np.fromfile, "/etc/passwd", dtype),
        "torch.load": _Call(torch.load, str(marker)),
    }


@pytest.mark.parametrize("form", ["pickle 0", "pickle 2", "pickle 4", "zip", "legacy"])
@pytest.mark.parametrize("name", list(_hostile("x")))
def test_hostile_files_are_refused_by_name(tmp_path, form, name):
    marker, path = tmp_path / "run", tmp_path / "weights.pkl"
    content = {"conv1_w": np.zeros(3, np.float32), "x": _hostile(marker)[name]}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, int(form[-1])))
    else:
        content.pop("conv1_w")
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError) as error:
        read_weights(path)
    message = str(error.value)
    assert "\n" not in message and "weights.pkl" in message and len(message) < 300
    # Python pickles some functions under another module (numpy._core.multiarray, ...).
    assert name.split(".")[-1] in message
    if name.startswith(("posix", "builtins")):
        assert name in message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy", "core.multiarray._reconstruct"), ("numpy", "load"), ("copyreg", "_reconstructor")],
)
def test_dotted_and_similar_names_are_refused(tmp_path, module, name):
    path = tmp_path / "x.pkl"
    parts = b"".join(b"\x8c" + bytes([len(p)]) + p.encode() for p in (module, name))
    path.write_bytes(b"\x80\x04" + parts + b"\x93.")
    with pytest.raises(UserError, match="refused"):
        read_weights(path)


def test_forged_arrays_and_codecs_are_refused(tmp_path):
    path = tmp_path / "x.pkl"
    objects = np.array([{"a": 1}], dtype=object)
    forged = b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R."
    codec = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00idna1\x86R."
    for data in (pickle.dumps(objects, 2), forged, codec):
        path.write_bytes(data)
        with pytest.raises(UserError, match="refused"):
            read_weights(path)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_read_as_they_were(tmp_path, protocol):
    arrays = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "foreign": np.arange(3, dtype=">f4"),
        "half": np.arange(3, dtype=np.float16),
        "long": np.arange(3),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.float32(2.5),
        "none": np.array(1.5),
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"blobs": arrays, "list": [1, "a", None]}, protocol))
    content = read_weights(path)
    assert content["list"] == [1, "a", None]
    for name, want in arrays.items():
        got = content["blobs"][name]
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype.newbyteorder("=") and got.flags.writeable
        assert torch.from_numpy(got).shape == np.shape(want)


def test_python_2_pickle_with_latin1_bytes(tmp_path):
    """Caffe2's files have raw bytes in a Python 2 str, and the module numpy.core."""
    raw = struct.pack("<3f", 1.5, -2.0, 3.25)
    stream = (
        b"\x80\x02}U\x07conv1_bcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x0c" + raw + b"tbs."
    )
    path = tmp_path / "x.pkl"
    path.write_bytes(stream)
    assert read_weights(path)["conv1_b"].tolist() == [1.5, -2.0, 3.25]


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_truncated_files_name_themselves(tmp_path, form, keep):
    path = tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"a": np.zeros(1000, np.float32)}, 2))
    else:
        content = {"a": torch.zeros(1000)}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match=r"weights\.pth: truncated, damaged") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_a_page_instead_of_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("<html>please log in</html>")
    with pytest.raises(UserError, match="not a weight file"):
        read_weights(path)
