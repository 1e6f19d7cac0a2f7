"""Runs the examples in the docstrings of `dynamic_atss`, in a folder like that of the demo."""

import doctest

import pytest

import dynamic_atss

SHORTENED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def folder(run, pictures, tmp_path, monkeypatch):
    """output/demo/run, a trained model; pictures, a folder of them, and picture.png, one."""
    (tmp_path / "output/demo").mkdir(parents=True)
    (tmp_path / "output/demo/run").symlink_to(run)
    (tmp_path / "pictures").symlink_to(pictures)
    (tmp_path / "picture.png").symlink_to(min(pictures.iterdir()))
    monkeypatch.chdir(tmp_path)


def run_example(value, name: str) -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert found.examples, f"{name} has no example"
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=SHORTENED).run(found, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", dynamic_atss.__all__)
def test_each_public_name_has_an_example_that_runs(folder, name):
    run_example(getattr(dynamic_atss, name), name)


def test_the_example_of_the_package_runs():
    run_example(dynamic_atss, "dynamic_atss")


def test_they_are_listed_and_no_other_name_is_there():
    assert set(dynamic_atss.__all__) <= {*dir(dynamic_atss)}
    with pytest.raises(AttributeError, match="'dynamic_atss' has no attribute 'Rule'"):
        _ = dynamic_atss.Rule
