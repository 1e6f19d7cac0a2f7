"""Makes a small run once for all tests of the page."""

import pytest
from helpers_pages import Inspect, train
from helpers_run import write_config


@pytest.fixture
def inspect(capsys):
    return Inspect(capsys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return folder, write_config(folder)


@pytest.fixture(scope="session")
def run(tiny):
    folder, arguments = tiny
    train(arguments, folder / "run", "SOLVER.EMA_DECAY", "0.9")
    return folder / "run"
