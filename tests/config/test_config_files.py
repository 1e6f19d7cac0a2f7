"""Tests where configuration files are found, and the message for a missing file."""

import pytest

from dynamic_atss.config import files
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError

SHAPES = "configs/quickstart/shapes_R_18.yaml"


def test_a_file_of_the_package_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.config_path(SHAPES) == files.shipped() / "quickstart/shapes_R_18.yaml"
    assert load_config(f"./{SHAPES}") == load_config(files.config_path(SHAPES))


def test_a_file_of_the_current_folder_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / SHAPES
    file.parent.mkdir(parents=True)
    file.write_text("SEED: 123\n")
    assert str(files.config_path(SHAPES)) == SHAPES and load_config(SHAPES).SEED == 123


def test_only_names_below_configs_are_looked_for_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart/shapes_R_18.yaml", "my/configs/quickstart/shapes_R_18.yaml"):
        assert str(files.config_path(name)) == name


def test_a_wheel_has_the_files_inside_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "site/dynamic_atss/configs/x.yaml"
    beside = tmp_path / "site/configs/y.yaml"  # of another package
    for path in (inside, beside):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(files, "PACKAGE", inside.parents[1])
    assert files.config_path("configs/x.yaml") == inside
    assert str(files.config_path("configs/y.yaml")) == "configs/y.yaml"


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("configs/quickstart/shape_R_18.yaml", f"the nearest is {SHAPES}"),
        ("shapes_R_18.yml", f"the nearest is {SHAPES}"),
        ("mime.yaml", "the nearest is mine.yaml"),
        ("run", "give run/config.yaml"),
        ("run/confg.yaml", "the nearest is run/config.yaml"),
        ("nowhere.yaml", "give the path of a YAML file"),
    ],
)
def test_the_message_for_a_missing_file_gives_advice(tmp_path, monkeypatch, given, advice):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("mine.yaml", "run/config.yaml"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as caught:
        load_config(given)
    assert str(caught.value).startswith(f"--config-file {given}: ")
    assert str(caught.value).endswith(f"; {advice}")
