"""Tests that every reader refuses hostile files.

They are not regular files, or endless, or small files that stand for large ones. Each is refused
in one line, without waiting, and before it takes memory.
"""

import bz2
import io
import json
import lzma
import os
import pickle
import socket
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dynamic_atss import yaml_text
from dynamic_atss.config.load import load_config
from dynamic_atss.data.annotations import read_json
from dynamic_atss.data.header import image_header
from dynamic_atss.data.image import read_image
from dynamic_atss.data.voc_names import read_lines
from dynamic_atss.data.voc_xml import parse_xml
from dynamic_atss.data.yolo_labels import Labels
from dynamic_atss.data.yolo_layout import read_layout
from dynamic_atss.engine.checkpoint import load_checkpoint
from dynamic_atss.errors import UserError
from dynamic_atss.files import read_metrics
from dynamic_atss.reading import KB, open_file, read_bytes
from dynamic_atss.weights import read_file
from dynamic_atss.weights.bounds import DamagedError
from dynamic_atss.weights.unpickle import outline, read_checkpoint
from dynamic_atss.yaml_text import load_yaml

READERS = {
    "config": load_config,
    "json": read_json,
    "xml": parse_xml,
    "list": read_lines,
    "labels": Labels(1).read,
    "data.yaml": read_layout,
    "header": image_header,
    "picture": read_image,
    "weights": read_file,
    "checkpoint": load_checkpoint,
    "metrics": read_metrics,
}


def _place(kind, folder):
    path = folder / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(path))
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(1 << 43)  # more than any limit, and possible on file systems
    return {"device": Path("/dev/zero"), "nul": folder / "a\0b"}.get(kind, path)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "socket", "sparse", "nul"])
@pytest.mark.parametrize("reader", READERS)
def test_anything_but_a_file_is_refused_in_one_line(tmp_path, monkeypatch, reader, kind):
    monkeypatch.chdir(tmp_path)  # allows a short path, as paths of sockets must be short
    path = _place(kind, tmp_path)
    if reader == "metrics" and kind == "nul":
        assert read_metrics(path) == []
        return
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            READERS[reader](path)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 and most < 20e6


def test_opening_a_pipe_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "x")
    before = time.process_time()
    with pytest.raises(OSError, match="is a pipe, not a file"):
        open_file(tmp_path / "x", KB)
    assert time.process_time() - before < 10  # the test only shows that the call returns


def test_files_up_to_the_limit_are_read(tmp_path):
    (tmp_path / "x").write_bytes(bytes(KB))
    assert read_bytes(tmp_path / "x", KB) == bytes(KB)
    with pytest.raises(OSError, match="has 1,024 bytes; at most 1,023 are read"):
        read_bytes(tmp_path / "x", KB - 1)
    with pytest.raises(OSError, match="no known end"):
        read_bytes("/proc/self/maps", 10)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LAUGHS, "more than 100,000 entries, aliases counted at each use"),
        (LAUGHS.replace("[", "{k: ").replace(", ", ", l: ").replace("]", "}"), "more than 100,000"),
        ("a: &a {b: *a}", r"\*a contains itself"),
        ("a: &a [[*a]]", r"\*a contains itself"),
        ("- " * 40 + "x", "nested more than 32 deep"),
        ("{a: " * 40 + "}" * 40, "nested more than 32 deep"),
        ("a: " + "1:" * 10_000 + "1", "has a value of 20,001 characters; at most 10,000"),
        ("a: 2001-02-30", "day is out of range"),
        ("a: !!timestamp x", "does not match its tag"),
        ("a: !!int ''", "does not match its tag"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: *b", "undefined alias"),
        (f"{{{2**61 - 1}: 1}}", "has the number 2305843009213693951 as a key; at most 15"),
        ("a: [{0x1fffffffffffffff: 1}]", "has the number 0x1fffffffffffffff as a key"),
        ("".join(f"%TAG !a{i}! x\n" for i in range(11)) + "---\na: 1", "more than 10 directives"),
        ("a: \x07", "control characters|special characters"),
    ],
)
@pytest.mark.parametrize("libyaml", [True, False])
def test_yaml_is_bounded(monkeypatch, text, fault, libyaml):
    if not libyaml:
        monkeypatch.setattr(yaml_text, "_SAFE", yaml.SafeLoader)
    with pytest.raises(ValueError, match=fault) as error:
        load_yaml(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_yaml_within_the_limits():
    text = "a: &a [1, 2]\nb: {<<: {c: *a}, d: *a}\n"
    assert load_yaml(text) == {"a": [1, 2], "b": {"c": [1, 2], "d": [1, 2]}}
    assert load_yaml("a: no", as_texts=True) == {"a": "no"}
    names = load_yaml("names:\n" + "".join(f"  {i}: class {i}\n" for i in range(21_000)))
    assert len(names["names"]) == 21_000
    text = f"%TAG !e! tag:yaml.org,2002:\n---\na: {2**61 - 1}\n999999999999999: !e!str 1\n"
    assert load_yaml(text) == {"a": 2**61 - 1, 10**15 - 1: "1"}
    assert load_yaml("# nothing") is None


def test_a_value_of_a_configuration_is_shown_short(tmp_path):
    (tmp_path / "x.yaml").write_text("SEED: [" + "x, " * 5000 + "]\nMODEL: {}\n")
    with pytest.raises(UserError, match="SEED wants an integer") as error:
        load_config(tmp_path / "x.yaml")
    assert len(str(error.value)) < 500


def test_xml_is_bounded(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text("<a>" * 100_000)
    with pytest.raises(UserError, match="nested more than 32 deep"):
        parse_xml(path)
    path.write_text("<a>" + "<b/>" * 300_000 + "</a>")
    with pytest.raises(UserError, match="more than 300,000 elements"):
        parse_xml(path)
    path.write_text("<a>" + "<b/>" * 2_500_000 + "</a>")
    with pytest.raises(UserError, match="at most 8,388,608 are read"):
        parse_xml(path)


def test_a_large_file_that_is_not_json_is_not_read_completely(tmp_path):
    path = tmp_path / "x.json"
    with open(path, "wb") as file:
        file.truncate(1 << 31)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"not JSON"):
        read_json(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    path.write_text(json.dumps({"a": [1e308, float("inf")]}))
    assert read_json(path)["a"][1] == float("inf")


def _png(path, chunks=0):
    parts = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(parts, "PNG")
    data = parts.getvalue()
    path.write_bytes(data[:33] + bytes(12) * chunks + data[33:])


def test_pictures_are_bounded(tmp_path):
    path = tmp_path / "x.png"
    _png(path, 1000)
    assert image_header(path)[:2] == (8, 8)
    _png(path, 200_001)
    for read in (image_header, read_image):
        with pytest.raises(UserError, match="more than 200000 chunks"):
            read(path)
    _png(path)
    with open(path, "r+b") as file:
        file.truncate(1 << 35)
    with pytest.raises(UserError, match="more than 200000 chunks"):
        read_image(path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "BMP")
    with open(path, "r+b") as file:
        file.truncate(1 << 35)
    with pytest.raises(UserError, match="bytes for 8 x 8 pixels"):
        read_image(path)


def test_no_reader_of_pillow_starts_a_program(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="not an image"):
        read_image(path)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(tmp_path, format):
    first, second = (np.full((8, 8, 3), value, np.uint8) for value in (0, 255))
    path = tmp_path / "x"
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(first).save(
        path, format, save_all=True, append_images=[Image.fromarray(second)] * 50, **options
    )
    assert read_image(path).max() == 0
    with pytest.raises(UserError, match=r"more than INPUT\.MAX_PIXELS 63"):
        read_image(path, max_pixels=63)


# Pickles of a few bytes. h and q read and write the memo; \x86 makes a pair.
PAIRS = b"q\x00h\x00\x86"
PICKLES = {
    "tuples in each other": b")" + PAIRS * 60,
    "such a key": b"}(" + b")" + PAIRS * 60 + b"Nu",
    "such keys": b")" + PAIRS * 18 + b"q\x01}(" + b"h\x01N" * 100 + b"u",
    "such keys of a frozen set": b")" + PAIRS * 18 + b"q\x01(" + b"h\x01" * 100 + b"\x91",
    "such keys of a table": b")" + PAIRS * 18 + b"q\x01(" + b"h\x01N" * 100 + b"d",
    "such keys of a set that is built": b"cbuiltins\nset\n]("
    + b")"
    + PAIRS * 18
    + b"q\x01"
    + b"h\x01" * 100
    + b"e\x85R",
    "lists in each other": b"]" + b"q\x00](h\x00h\x00e" * 60,
    "lists that hold all others": b"".join(b"]q%c0" % i for i in range(48, 68))
    + b"".join(
        b"h%c(" % i + b"".join(b"h%c" % j for j in range(48, 68)) + b"e0" for i in range(48, 68)
    )
    + b"h0"
    + b"\x85" * 120,
    "deep": b"]" * 5000 + b"a" * 4999,
    "operations": b"](" + b"N" * 600_000 + b"e",
    "long integer": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "long text": b"\x8d" + struct.pack("<Q", 2**40),
    "long bytes": b"\x8e" + struct.pack("<Q", 2**40),
    "long bytearray": b"\x96" + struct.pack("<Q", 2**33),
    "long frame": b"\x95" + struct.pack("<Q", 2**40) + b"N",
    "a number of bytes": b"cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\1\x85R",
}


@pytest.mark.slow
@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("name", PICKLES)
def test_small_pickles_stay_small(tmp_path, name, archive):
    path, content = tmp_path / "x.pth", b"\x80\x04" + PICKLES[name] + b"."
    path.write_bytes(content)
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/data.pkl", content)
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged") as error:
        read_file(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert "\n" not in str(error.value)


def test_a_container_within_itself_is_replaced(tmp_path):
    path = tmp_path / "x.pkl"
    itself = {"a": [1]}
    itself["b"] = itself
    path.write_bytes(pickle.dumps({"model": {"x": 1}, "other": itself}))
    other = read_file(path)["other"]
    assert other["a"] == [1] and other["b"].name == "container within itself"


def test_expanded_tensors_are_bounded(tmp_path):
    class Forged:
        def __reduce__(self):
            storage = torch.zeros(1)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**11,), (0,), False, {})

    torch.save(
        {"model": {"head.x": torch.zeros(1).expand(1000), "y": torch.ones(2)}}, tmp_path / "a"
    )
    assert read_file(tmp_path / "a")["model"]["head.x"].shape == (1000,)
    torch.save({"model": {"head.x": Forged()}}, tmp_path / "b")
    with pytest.raises(UserError, match="tensor is far larger"):
        read_file(tmp_path / "b")


KEYS, P = range(1001, 2002), 2**61 - 1  # multiples of P have the hash 0
KEYED = {
    "large numbers": b"}(" + b"".join(b"L%dL\nN" % (k * P) for k in KEYS) + b"u",
    "fractions in a set": b"\x8f(" + b"".join(b"F%d.5\n" % k for k in KEYS) + b"\x90",
    "pairs": b"}(" + b"".join(b"I%d\nI%d\n\x86N" % (k, -k) for k in KEYS) + b"u",
    "large numbers in pairs": b"ccollections\nOrderedDict\n]("
    + b"".join(b"L%dL\nN\x86" % (k * P) for k in KEYS)
    + b"e\x85R",
}


@pytest.mark.parametrize("name", KEYED)
def test_keys_whose_hashes_a_file_chooses_are_few(tmp_path, name):
    (tmp_path / "x.pth").write_bytes(b"\x80\x04" + KEYED[name] + b".")
    with pytest.raises(UserError, match="more than 1,000 keys"):
        read_file(tmp_path / "x.pth")


def test_numbers_of_the_memo_are_small(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"\x80\x04Np%d\n." % P)
    with pytest.raises(UserError, match="memo number beyond 32 bits"):
        read_file(tmp_path / "x.pth")


def test_large_numbers_as_keys_of_storages(tmp_path):
    pid = b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + b"L%dL\n" % P + b"X\x03\0\0\0cpuK\0tQ"
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02" + pid + b".")
        file.writestr(f"x/data/{P}", b"")
    with pytest.raises(UserError, match="key of a storage"):
        read_file(tmp_path / "x.pth")


def test_a_thousand_keys_of_other_kinds_are_read(tmp_path):
    content = {"model": {(k, 0.5): k for k in range(1000)} | {k: k for k in range(3000)}}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    assert read_file(tmp_path / "x.pkl") == content


def _archive(path, method, stream, declared):
    """Writes an archive with a pickle for which the directory declares `declared` bytes."""
    name = b"archive/data.pkl"
    sums = zlib.crc32(PICKLE), len(stream), declared
    part = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, method, 0, 0, *sums, len(name), 0) + name
    head = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, method, 0, 0, *sums, len(name), 0, 0, 0, 0, 0, 0
    )
    sizes = len(head + name), len(part + stream)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, *sizes, 0)
    path.write_bytes(part + stream + head + name + end)


PICKLE = pickle.dumps({"model": {"x": 1}}, 2)
LONG = PICKLE + bytes(100 << 20)


def _deflated(content):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(content) + squeeze.flush()


@pytest.mark.parametrize("read", [read_file, outline, read_checkpoint])
def test_parts_are_decompressed_only_to_the_declared_size(tmp_path, read):
    path = tmp_path / "x.pth"
    _archive(path, zipfile.ZIP_DEFLATED, _deflated(PICKLE), len(PICKLE))
    assert read(path) == {"model": {"x": 1}}
    _archive(path, zipfile.ZIP_DEFLATED, _deflated(LONG), len(PICKLE))
    tracemalloc.start()
    assert read(path) == {"model": {"x": 1}}
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("read", [read_file, outline, read_checkpoint])
@pytest.mark.parametrize(
    ("method", "stream", "fault"),
    [
        (zipfile.ZIP_DEFLATED, _deflated(PICKLE[:-1]), "Bad CRC-32"),
        (zipfile.ZIP_STORED, PICKLE + bytes(100), "a part that is not compressed has two sizes"),
        (zipfile.ZIP_BZIP2, bz2.compress(LONG), "compressed by method 12"),
        (zipfile.ZIP_LZMA, b"\t\4\5\0" + lzma.compress(LONG)[:500], "compressed by method 14"),
        (93, PICKLE, "compressed by method 93"),
    ],
)
def test_parts_of_other_methods_or_sizes_are_refused(tmp_path, read, method, stream, fault):
    _archive(tmp_path / "x.pth", method, stream, len(PICKLE))
    with pytest.raises((UserError, DamagedError, zipfile.BadZipFile), match=fault):
        read(tmp_path / "x.pth")


def _overlapping(path, count):
    """Writes an archive whose directory has many entries for one part."""
    data, name = bytes(100_000), b"a/data/0"
    sums = zlib.crc32(data), len(data), len(data)
    part = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, *sums, len(name), 0) + name + data
    head = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sums, len(name), 0, 0, 0, 0, 0, 0
    )
    directory = (head + name) * count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(part), 0)
    path.write_bytes(part + directory + end)


@pytest.mark.parametrize("reader", ["weights", "checkpoint"])
def test_archives_are_bounded(tmp_path, reader):
    path = tmp_path / "model_0000001.pth"
    _overlapping(path, 1000)
    with pytest.raises(UserError, match=r"damaged|not of torch.save"):
        READERS[reader](path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\x80\x02N.")
        with file.open("a/data/0", "w") as part:
            for _ in range(64):
                part.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged"):
        READERS[reader](path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_archives_with_a_long_directory(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(150):
            file.writestr(f"{i}/" + "a" * 60_000, b"")
    with pytest.raises(UserError, match="directory is too long"):
        read_file(path)


def test_the_header_of_safetensors_is_bounded(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 90_000_000) + b"{" + b" " * 1000)
    with pytest.raises(UserError, match="its header claims 90,000,000 bytes"):
        read_file(path)
