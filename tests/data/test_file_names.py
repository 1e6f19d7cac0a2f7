"""File names in the forms of other machines."""

import json
import logging
import unicodedata

import pytest
from helpers_data import box, write_coco

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.file_names import match_names, shown_pair
from dynamic_atss.errors import UserError

SIZES = {1: (20, 30), 2: (40, 24)}
COMPOSED = unicodedata.normalize("NFC", "Häuser.png")
DECOMPOSED = unicodedata.normalize("NFD", "Häuser.png")


def data_set(folder, written, on_disk):
    """Writes two images: 2.png, and one named `written` in the annotations, `on_disk` in photos."""
    path = write_coco(folder, SIZES, [box(1, 1, [1, 1, 9, 9]), box(2, 2, [1, 1, 9, 9])])
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = written
    path.write_text(json.dumps(content))
    (folder / "images").rename(folder / "photos")
    (folder / "photos" / on_disk).parent.mkdir(parents=True, exist_ok=True)
    (folder / "photos/1.png").rename(folder / "photos" / on_disk)
    return path


def opened(path):
    return CocoDataset(path, path.parent / "photos", training=True)


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("sub\\a b.png", "sub/a b.png"),
        (".\\a.png", "a.png"),
        ("photos\\a.png", "a.png"),
        ("photos/a.png", "a.png"),
        ("{parent}/photos/a.png", "a.png"),
        ("C:\\Users\\me\\photos\\sub\\a.png", "sub/a.png"),
        ("/home/me/photos/a.png", "a.png"),
        ("https://some.where/photos/a%20b.png", "a b.png"),
        ("my%20photo%201.png", "my photo 1.png"),
        ("my photo 1.png", "my%20photo%201.png"),
        ("100%25.png", "100%.png"),
        ("H%C3%A4user.png", COMPOSED),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        ("a.PNG", "a.png"),
        ("Sub\\A.png", "sub/a.png"),
        ("a.png ", "a.png"),
        ("sub/a.png", "sub\\a.png"),
    ],
)
def test_names_that_mean_one_file(tmp_path, caplog, written, on_disk):
    written = written.format(parent=tmp_path.name)
    path = data_set(tmp_path, written, on_disk)
    with caplog.at_level(logging.INFO):
        data = opened(path)
    assert [str(data.path(i)) for i in (0, 1)] == [
        f"{tmp_path}/photos/{on_disk}", f"{tmp_path}/photos/2.png",
    ]  # fmt: skip
    assert data[0].image.shape == (3, 20, 30)
    shown = " as ".join(shown_pair(written, on_disk))
    assert f"1 file names found in another form, such as {shown}" in caplog.text


@pytest.mark.parametrize(
    ("written", "on_disk", "message"),
    [
        ("a.jpg", "a.png", "the folder has 'a.png'"),
        ("a.png", "sub/a.png", "the folder has 'sub/a.png'"),
        ("other/a.png", "a.png", "the folder has 'a.png'"),
        ("D:\\train\\photos\\a.png", "a.png", "the folder has 'a.png'"),
        ("nothing.png", "a.png", "the folder has 2 files"),
        ("\x1b[31m.png", "a.png", "the folder has 2 files"),
    ],
)
def test_names_that_are_not_certain_are_errors(tmp_path, written, on_disk, message):
    with pytest.raises(UserError) as error:
        opened(data_set(tmp_path, written, on_disk))
    text = str(error.value)
    assert message in text and "1 of the 2 that" in text and text.isprintable()


def test_a_name_that_exists_is_not_changed(tmp_path):
    path = data_set(tmp_path, "a%20b.png", "a%20b.png")
    (tmp_path / "photos/a b.png").write_bytes(b"another picture")
    assert opened(path)[0].image.shape == (3, 20, 30)


def test_two_names_of_one_file_and_two_files_of_one_name(tmp_path):
    assert match_names(["A.png", "a.PNG"], ["a.png"], [], tmp_path) == {}
    assert match_names(["A.png"], ["a.png"], ["a.png"], tmp_path) == {}
    assert match_names(["A.png"], ["a.png", "a.PNG"], [], tmp_path) == {}
    # "A b.png" differs in letter case, too.
    found = match_names(["a%20b.png"], ["A b.png", "a b.png"], [], tmp_path)
    assert found == {"a%20b.png": "a b.png"}


def test_nothing_outside_of_the_folder_is_found(tmp_path):
    data_set(tmp_path, "a.png", "a.png")
    (tmp_path / "secret.png").write_bytes(b"")
    files = ["a.png", "2.png"]
    for name in ("..\\secret.png", "%2e%2e/secret.png", "photos\\..\\..\\secret.png"):
        assert match_names([name], files, [], tmp_path / "photos") == {}


def test_decomposed_letters_are_shown_with_escapes():
    assert shown_pair("u\u0308.png", "\u00fc.png") == (r"'u\u0308.png'", r"'\xfc.png'")
    assert shown_pair("\u00fc.PNG", "\u00fc.png") == ("'\u00fc.PNG'", "'\u00fc.png'")
