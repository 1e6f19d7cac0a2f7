"""Tests that files are complete or absent."""

import json

import pytest

from dynamic_atss import files
from dynamic_atss.errors import UserError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_folder_is_made_and_nothing_else_is_left(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "note.txt", "größe\n")
    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == "größe\n".encode()
    assert names(tmp_path / "a" / "b") == ["note.txt"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with files.replacement(path) as file:
        file.write(b"n")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"ew")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_writer_is_raised_and_the_old_file_stays(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        files.write_atomically(path, write)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x.bin"]


def test_the_temporary_file_of_a_killed_writer_is_overwritten(tmp_path):
    (tmp_path / ".x.bin.tmp").write_bytes(b"half of a file, and longer")
    files.write_text(tmp_path / "x.bin", "new")
    assert (tmp_path / "x.bin").read_text() == "new" and names(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("place", ["file/x.txt", "folder"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as error:
        files.write_text(tmp_path / place, "text")
    assert str(error.value).startswith(f"{tmp_path / place}: cannot be written (")
    assert "\n" not in str(error.value) and names(tmp_path) == ["file", "folder"]


def test_records_of_a_killed_run_are_read_up_to_the_incomplete_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert files.read_metrics(path) == []
    record = json.dumps({"iteration": 1, "loss": 0.5})
    path.write_text(f"{record}\n[]\n{record[:-3]}")
    assert files.read_metrics(path) == [{"iteration": 1, "loss": 0.5}]
