"""Refuses files whose tensors need code, damaged files, and files that would fill the memory."""

import io
import pickle
import random
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_atss.errors import UserError
from dynamic_atss.weights.formats import identify
from dynamic_atss.weights.unpickle import read_weights

NAME = "backbone.body.stem.conv1.weight"
STATE = {NAME: torch.arange(4000.0)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


class _Call:
    """An object that pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _make_tensor():
    raise AssertionError("code of the file ran")


def _refusal(content, path, **options):
    torch.save(content, path, **options)
    with pytest.raises(UserError) as error:
        identify(read_weights(path), path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and "refused" in message
    return message


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:.*source")
def test_pickled_modules_are_refused_with_advice(tmp_path, zipped):
    options = {"_use_new_zipfile_serialization": zipped}
    for content in (Net(), {"model": Net()}, {"epoch": 3, "ema": Net(), "model": None}):
        message = _refusal(content, tmp_path / "x.pt", **options)
        assert "pickled test_refused_files.Net" in message
        assert "torch.save(model.state_dict(), 'weights.pth')" in message


def test_a_module_next_to_weights_is_noted(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"model": Net(), "ema": STATE}, path)
    source = identify(read_weights(path), path)
    assert source.tensors[NAME].equal(STATE[NAME])
    assert "model was not read: a pickled test_refused_files.Net" in source.notes[0]


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_tensors_that_only_code_could_make_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    made = {NAME: _Call(_make_tensor)}
    assert "test_refused_files._make_tensor" in _refusal({"model": made}, path)
    assert f"{NAME} is a pickled" in _refusal({"model": {**made, f"{NAME}2": torch.ones(1)}}, path)
    packed = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    assert "_rebuild_qtensor" in _refusal({"model": {NAME: packed}}, path)
    assert "dtype 'O8'" in _refusal({"model": {NAME: np.array([1, None], dtype=object)}}, path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"model": {}}, [torch.ones(1)], "weights"])
def test_files_without_weights_are_refused_with_advice(tmp_path, content):
    message = _refusal(content, tmp_path / "x.pth")
    assert "state_dict" in message


def test_tar_archives_are_no_weight_files(tmp_path):
    with tarfile.open(tmp_path / "x.pth.tar", "w") as tar:
        tar.add(__file__)
    with pytest.raises(UserError, match="not a weight file"):
        read_weights(tmp_path / "x.pth.tar")


@pytest.mark.parametrize("form", ["zip", "stream", "pickle"])
def test_flipped_bits_are_refused_or_harmless(tmp_path, form):
    """A zip that loads has equal weights. Streams and pickles have no checksum."""
    path, rng = tmp_path / "x.pth", random.Random(0)
    content = {"model": STATE, "note": {"a": [1, (2, 3)], "b": np.ones(2)}}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    intact, refused = path.read_bytes(), 0
    for _ in range(300):
        data = bytearray(intact)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        try:
            got = read_weights(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert form != "zip" or got["model"][NAME].equal(STATE[NAME])
    assert refused > (200 if form == "zip" else 0)


def test_random_pickle_streams_end_in_one_line(tmp_path):
    """Instructions in random order give a value or a UserError, and call nothing."""
    path, rng = tmp_path / "x.pkl", random.Random(1)
    codes = [getattr(pickle, name) for name in pickle.__all__ if len(name) > 2]
    codes = [code for code in codes if isinstance(code, bytes)]
    names = [b"cposix\nsystem\n", b"cnumpy\nndarray\n", b"ctorch._utils\n_rebuild_tensor_v2\n"]
    values = [b"K\x01", b"X\x01\x00\x00\x00a", b"}", b"]", b")", b"(", b"N", *names]
    for _ in range(3000):
        parts = [rng.choice(codes if rng.random() < 0.5 else values) for _ in range(12)]
        path.write_bytes(b"\x80\x04" + b"".join(parts) + b".")
        try:
            read_weights(path)
        except UserError as error:
            assert "x.pkl" in str(error)


def test_attributes_of_what_the_reader_uses_cannot_be_set(tmp_path):
    """In Python, BUILD with a state of slots sets attributes of any object on the stack."""
    path = tmp_path / "x.pkl"
    for name in (b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2"):
        path.write_bytes(
            b"\x80\x02}X\x01\x00\x00\x00ac" + name + b"\n(N}X\x01\x00\x00\x00bK\x01stbs."
        )
        assert not hasattr(read_weights(path)["a"], "b")


def _repeated(count):
    """Pickles a list of `count` numbers, and `count` sets of that list."""
    numbers = b"](" + b"K\x01" * count + b"eq\x000"
    return b"\x80\x02" + numbers + b"](" + b"c__builtin__\nset\nh\x00\x85R" * count + b"e."


def _doubled(depth):
    return b"\x80\x02]" + b"q\x000](h\x00h\x00e" * depth + b"."


def test_small_files_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "x.pkl"
    tracemalloc.start()
    path.write_bytes(_doubled(60))  # 2 ** 60 lists for a walk like that of str()
    with pytest.raises(UserError, match="more than 2,000,000 entries"):
        read_weights(path)
    path.write_bytes(_repeated(20_000))
    with pytest.raises(UserError, match="damaged"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_archives_that_inflate_too_much_are_refused_first(tmp_path):
    base = io.BytesIO()
    torch.save({"model": STATE}, base)
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(base) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for part in source.infolist():
            large = part.filename.endswith("data/0")
            bomb.writestr(part.filename, bytes(1 << 28) if large else source.read(part))
    tracemalloc.start()
    with pytest.raises(UserError, match="its parts are larger than the file"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "arguments",
    [(0, (10**6,), (1,)), (10**9, (1,), (1,)), (-1, (1,), (1,)), (0, (2,), (-1,)), (0, 3, 4)],
)
def test_tensors_stay_within_their_storage(tmp_path, arguments):
    class Forged:
        def __reduce__(self):
            storage = torch.zeros(4)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, *arguments, False, {})

    path = tmp_path / "x.pth"
    torch.save({"model": {NAME: Forged()}}, path)
    with pytest.raises(UserError, match="damaged"):
        read_weights(path)
