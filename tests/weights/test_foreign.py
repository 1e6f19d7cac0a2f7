"""Weight files of other programs: the error names their kind and how to convert them."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from dynamic_atss.errors import UserError
from dynamic_atss.weights.loading import read_file


def _npz(save):
    buffer = io.BytesIO()
    save(buffer, w=np.zeros(3000, np.float32))
    return buffer.getvalue()


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def _zip(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"x" * 100)
    return buffer.getvalue()


def _tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def _safetensors():
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


FILES = {
    # ir_version 8, then the producer's name; ir_version 7, then the graph
    "onnx": (b"\x08\x08\x12\x07pytorch" + bytes(50), "an ONNX graph: in the program"),
    "onnx_bare": (b"\x08\x07:\x90\x01" + bytes(200), "an ONNX graph"),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(500), "an HDF5 file.*read it with h5py"),
    "keras": (_zip("model.weights.h5"), "a Keras model"),
    "npz": (_npz(np.savez), r"numpy arrays \(.npz\): numpy.load it and torch.save"),
    "npz_compressed": (_npz(np.savez_compressed), r"numpy arrays \(.npz\)"),
    "npy": (_npy(), "one array of numpy"),
    "tflite": (bytes(4) + b"TFL3" + bytes(99), "TensorFlow Lite"),
    "gz": (gzip.compress(b"x" * 99), "gzip: unpack it"),
    "tar": (_tar(), "a tar archive: unpack it"),
    "zip": (_zip("weights.pth"), "a zip archive.*unpack it"),
    "safetensors": (_safetensors(), "rename it to end with .safetensors"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs_are_named(tmp_path, name):
    content, kind = FILES[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=kind) as error:
        read_file(path)
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_not_taken_for_foreign(tmp_path, zipped):
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    assert read_file(path)["w"].tolist() == [1, 1, 1]


def test_half_an_archive_is_damaged_not_foreign(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(3000)}, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated, damaged"):
        read_file(path)
